// One voxel in one view, for host and device.
#pragma once
#include <cmath>

#include "../common/lanes.h"
#include "backprojection.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

// Where a voxel is seen: the pixel below and the shares of the next ones; weight 0 when it is not.
template <class T>
struct Sighting {
  int64_t row, col;
  T row_share, col_share, weight;
};

template <class T>
MEDSYNTH_HD Sighting<T> sighting(const BackprojectionParams& p, const double* m, double scale, double x, double y,
                                 double z) {
  Sighting<T> s{0, 0, T(0), T(0), T(0)};
  const double depth = m[8] * x + m[9] * y + m[10] * z + m[11];
  if (!(depth > 0.0)) return s;
  const double per = 1.0 / depth;
  const double col = (m[0] * x + m[1] * y + m[2] * z + m[3]) * per;
  const double row = (m[4] * x + m[5] * y + m[6] * z + m[7]) * per;
  const bool inside =
      col > -1.0 && col < static_cast<double>(p.cols) && row > -1.0 && row < static_cast<double>(p.rows);
  if (!inside) return s;
  const double whole_col = std::floor(col), whole_row = std::floor(row);
  s.col = static_cast<int64_t>(whole_col);
  s.row = static_cast<int64_t>(whole_row);
  s.col_share = static_cast<T>(col - whole_col);
  s.row_share = static_cast<T>(row - whole_row);
  s.weight = static_cast<T>(p.weighted ? scale * per * per : scale);
  return s;
}

// Calls f(pixel, share) for the pixels of a sighting that lie on the detector.
template <class T, class F>
MEDSYNTH_HD void for_each_pixel(const BackprojectionParams& p, const Sighting<T>& s, F f) {
  for (int j = 0; j < 2; ++j) {
    const int64_t row = s.row + j;
    const T row_share = j ? s.row_share : T(1) - s.row_share;
    if (row < 0 || row >= p.rows || row_share == T(0)) continue;
    for (int i = 0; i < 2; ++i) {
      const int64_t col = s.col + i;
      const T share = row_share * (i ? s.col_share : T(1) - s.col_share);
      if (col >= 0 && col < p.cols && share != T(0)) f(row * p.cols + col, share);
    }
  }
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
