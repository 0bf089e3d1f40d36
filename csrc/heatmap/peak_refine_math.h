// The place of a peak below one voxel, in float64 from the voxels around it.
#pragma once
#include "../common/elementary.h"
#include "heatmap_peaks.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

// The voxels around a peak, read in float64.
template <class T>
struct PeakNeighbourhood {
  const T* map;
  int64_t n[3], r[3];
  double logs[27];  // logarithms of the 3^3 voxels around r, those that exist

  MEDSYNTH_HD bool inner(int d) const { return r[d] > 0 && r[d] < n[d] - 1; }

  MEDSYNTH_HD double raw(int64_t z, int64_t y, int64_t x) const {
    return static_cast<double>(map[((r[0] + z) * n[1] + r[1] + y) * n[2] + r[2] + x]);
  }

  MEDSYNTH_HD double log_at(int64_t z, int64_t y, int64_t x) const { return logs[(z * 3 + y) * 3 + x + 13]; }

  MEDSYNTH_HD static int64_t inside(int64_t i, int64_t n) { return i < 0 ? 0 : i < n ? i : n - 1; }

  MEDSYNTH_HD void take_logs() {
    for (int i = 0; i < 27; ++i) {
      const int64_t z = i / 9 - 1, y = i / 3 % 3 - 1, x = i % 3 - 1;
      const bool exists = inside(r[0] + z, n[0]) == r[0] + z && inside(r[1] + y, n[1]) == r[1] + y &&
                          inside(r[2] + x, n[2]) == r[2] + x;
      const double v = exists ? raw(z, y, x) : 0.0;
      logs[i] = log_of(v > 1e-12 ? v : 1e-12);
    }
  }

  // The same after a smoothing in which border voxels go on outside and NaN counts as 0.
  MEDSYNTH_HD void take_smooth_logs(const double* taps, int64_t reach) {
    for (double& v : logs) v = 0;
    const auto tap = [&](int64_t k) { return k < -reach || k > reach ? 0.0 : taps[k < 0 ? -k : k]; };
    int64_t span[3], step[3];  // an axis of one voxel stays as it is
    for (int d = 0; d < 3; ++d) {
      span[d] = n[d] > 1 ? reach + 1 : 0;
      step[d] = n[d] > 1 ? 1 : 0;
    }
    for (int64_t z = -span[0]; z <= span[0]; ++z) {
      for (int64_t y = -span[1]; y <= span[1]; ++y) {
        const T* row = map + (inside(r[0] + z, n[0]) * n[1] + inside(r[1] + y, n[1])) * n[2];
        double along[3] = {0, 0, 0};
        for (int64_t x = -span[2]; x <= span[2]; ++x) {
          const double v = static_cast<double>(row[inside(r[2] + x, n[2])]);
          const double number = v == v ? v : 0.0;
          for (int64_t k = -step[2]; k <= step[2]; ++k) along[k + 1] += (step[2] == 0 ? 1.0 : tap(x - k)) * number;
        }
        for (int64_t i = -step[0]; i <= step[0]; ++i) {
          const double of_z = step[0] == 0 ? 1.0 : tap(z - i);
          for (int64_t j = -step[1]; j <= step[1]; ++j) {
            const double w = of_z * (step[1] == 0 ? 1.0 : tap(y - j));
            for (int64_t k = -step[2]; k <= step[2]; ++k) logs[(i * 3 + j) * 3 + k + 13] += w * along[k + 1];
          }
        }
      }
    }
    for (double& v : logs) v = log_of(v > 1e-12 ? v : 1e-12);
  }
};

// The top of the parabola through a, b, c at -1, 0, 1, within half a voxel; 0 where it has none.
MEDSYNTH_HD double parabola_top(double a, double b, double c) {
  const double bend = a - 2 * b + c;
  if (!(bend < -1e-12)) return 0;
  const double top = 0.5 * (a - c) / bend;
  return top > 0.5 ? 0.5 : top < -0.5 ? -0.5 : top;
}

template <class Value>
MEDSYNTH_HD double parabola_along(int d, Value value, double centre) {
  const int64_t z = d == 0, y = d == 1, x = d == 2;
  return parabola_top(value(-z, -y, -x), centre, value(z, y, x));
}

// Solves A o = g for a symmetric positive definite A of up to three rows; false where it is not positive definite.
MEDSYNTH_HD bool solve_positive(double (&a)[3][3], double (&g)[3], int size) {
  for (int k = 0; k < size; ++k) {
    if (!(a[k][k] > 0)) return false;
    for (int i = k + 1; i < size; ++i) {
      const double f = a[i][k] / a[k][k];
      for (int j = k; j < size; ++j) a[i][j] -= f * a[k][j];
      g[i] -= f * g[k];
    }
  }
  for (int k = size - 1; k >= 0; --k) {
    for (int j = k + 1; j < size; ++j) g[k] -= a[k][j] * g[j];
    g[k] /= a[k][k];
  }
  return true;
}

// One Newton step on the logarithm; axes on the border stay. False where that is no maximum within one voxel.
template <class T>
MEDSYNTH_HD bool dark_step(const PeakNeighbourhood<T>& near, double centre, double (&offset)[3]) {
  int axes[3], size = 0;
  for (int d = 0; d < 3; ++d) {
    if (near.inner(d)) axes[size++] = d;
  }
  double g[3] = {0, 0, 0}, a[3][3] = {};
  for (int i = 0; i < size; ++i) {
    int64_t u[3] = {0, 0, 0};
    u[axes[i]] = 1;
    const double before = near.log_at(-u[0], -u[1], -u[2]), after = near.log_at(u[0], u[1], u[2]);
    g[i] = 0.5 * (after - before);
    a[i][i] = -(after - 2 * centre + before);
    for (int j = 0; j < i; ++j) {
      int64_t v[3] = {0, 0, 0};
      v[axes[j]] = 1;
      const double mixed =
          near.log_at(u[0] + v[0], u[1] + v[1], u[2] + v[2]) - near.log_at(u[0] - v[0], u[1] - v[1], u[2] - v[2]) -
          near.log_at(v[0] - u[0], v[1] - u[1], v[2] - u[2]) + near.log_at(-u[0] - v[0], -u[1] - v[1], -u[2] - v[2]);
      a[i][j] = a[j][i] = -0.25 * mixed;
    }
  }
  if (!solve_positive(a, g, size)) return false;
  for (int i = 0; i < size; ++i) {
    if (!(fabs(g[i]) <= 1)) return false;
  }
  for (int i = 0; i < size; ++i) offset[axes[i]] = g[i];
  return true;
}

template <class T>
MEDSYNTH_HD void centre_of_mass(const PeakNeighbourhood<T>& near, int64_t window, double (&offset)[3]) {
  int64_t first[3], last[3];
  for (int d = 0; d < 3; ++d) {
    first[d] = near.r[d] < window ? -near.r[d] : -window;
    last[d] = near.n[d] - 1 - near.r[d] < window ? near.n[d] - 1 - near.r[d] : window;
  }
  double mass = 0, moment[3] = {0, 0, 0};
  for (int64_t z = first[0]; z <= last[0]; ++z) {
    for (int64_t y = first[1]; y <= last[1]; ++y) {
      for (int64_t x = first[2]; x <= last[2]; ++x) {
        const double v = near.raw(z, y, x);
        const double w = v > 0 ? v : 0;
        mass += w;
        moment[0] += w * static_cast<double>(z);
        moment[1] += w * static_cast<double>(y);
        moment[2] += w * static_cast<double>(x);
      }
    }
  }
  for (int d = 0; d < 3; ++d) {
    const double o = moment[d] / mass;
    offset[d] = o - o == 0 ? o : 0;
  }
}

// Offset of the peak from its voxel.
template <class T>
MEDSYNTH_HD void refine_peak(const HeatmapPeaksParams& p, int64_t map, int64_t index, double (&at)[3]) {
  PeakNeighbourhood<T> near{static_cast<const T*>(p.maps) + map * p.volume(),
                            {p.n[0], p.n[1], p.n[2]},
                            {index / p.n[2] / p.n[1], index / p.n[2] % p.n[1], index % p.n[2]},
                            {}};
  double offset[3] = {0, 0, 0};
  if (p.refine == PeakRefine::parabola) {
    const auto value = [&](int64_t z, int64_t y, int64_t x) { return near.raw(z, y, x); };
    for (int d = 0; d < 3; ++d) {
      if (near.inner(d)) offset[d] = parabola_along(d, value, near.raw(0, 0, 0));
    }
  } else if (p.refine == PeakRefine::log_parabola || p.refine == PeakRefine::dark) {
    if (p.refine == PeakRefine::dark && p.reach > 0) {
      near.take_smooth_logs(p.taps, p.reach);
    } else {
      near.take_logs();
    }
    const double centre = near.log_at(0, 0, 0);
    if (p.refine == PeakRefine::log_parabola || !dark_step(near, centre, offset)) {
      const auto value = [&](int64_t z, int64_t y, int64_t x) { return near.log_at(z, y, x); };
      for (int d = 0; d < 3; ++d) {
        if (near.inner(d)) offset[d] = parabola_along(d, value, centre);
      }
    }
  } else if (p.refine == PeakRefine::com) {
    centre_of_mass(near, p.window, offset);
  }
  for (int d = 0; d < 3; ++d) at[d] = static_cast<double>(near.r[d]) + offset[d];
}

// Writes peak k of a map; index -1 leaves NaN and the given value.
template <class T>
MEDSYNTH_HD void store_peak(const HeatmapPeaksParams& p, int64_t map, int64_t k, int64_t index, T value) {
  const int64_t item = map * p.max_peaks + k;
  double at[3] = {NAN, NAN, NAN};
  if (index >= 0) refine_peak<T>(p, map, index, at);
  for (int64_t d = 0; d < p.axes; ++d) {
    static_cast<T*>(p.coords)[item * p.axes + d] = static_cast<T>(at[3 - p.axes + d]);
  }
  static_cast<T*>(p.value)[item] = value;
}

// Whether two voxels lie within the radius of each other.
MEDSYNTH_HD bool peaks_near(const HeatmapPeaksParams& p, int64_t a, int64_t b) {
  const int64_t row_a = a / p.n[2], row_b = b / p.n[2];
  const double z = static_cast<double>(row_a / p.n[1] - row_b / p.n[1]) * p.spacing[0];
  const double y = static_cast<double>(row_a % p.n[1] - row_b % p.n[1]) * p.spacing[1];
  const double x = static_cast<double>(a % p.n[2] - b % p.n[2]) * p.spacing[2];
  return z * z + y * y + x * x <= p.radius * p.radius;
}

// Whether voxel (z, y, x), which exceeds the threshold, is a local maximum.
template <class T>
MEDSYNTH_HD bool is_local_maximum(const HeatmapPeaksParams& p, const T* map, int64_t z, int64_t y, int64_t x) {
  const int64_t w = p.window;
  const int64_t z0 = z < w ? 0 : z - w, z1 = z + w < p.n[0] ? z + w : p.n[0] - 1;
  const int64_t y0 = y < w ? 0 : y - w, y1 = y + w < p.n[1] ? y + w : p.n[1] - 1;
  const int64_t x0 = x < w ? 0 : x - w, x1 = x + w < p.n[2] ? x + w : p.n[2] - 1;
  const int64_t self = (z * p.n[1] + y) * p.n[2] + x;
  const T value = map[self];
  for (int64_t k = z0; k <= z1; ++k) {
    for (int64_t j = y0; j <= y1; ++j) {
      for (int64_t i = x0; i <= x1; ++i) {
        const int64_t at = (k * p.n[1] + j) * p.n[2] + i;
        if (at < self && !p.all_ties ? map[at] >= value : map[at] > value) return false;
      }
    }
  }
  return true;
}

// Whether a voxel is far enough from the border.
MEDSYNTH_HD bool peak_allowed(const HeatmapPeaksParams& p, const int64_t (&r)[3]) {
  for (int d = static_cast<int>(3 - p.axes); d < 3; ++d) {
    if (r[d] < p.border || r[d] >= p.n[d] - p.border) return false;
  }
  return true;
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
