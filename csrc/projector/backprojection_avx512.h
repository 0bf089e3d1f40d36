// Voxel-driven back-projection in float32, 16 voxels at a time: along x in a slice, along z where voxels of a column
// share their place on the detector's columns (every circular scan). Where neighbouring voxels are seen about a pixel
// apart, two loads and two permutations read the pixels of all 16; else they are gathered.
//
// A place is kept as a whole pixel in double precision plus a small local part in single precision.
#pragma once
#include "../common/parallel.h"
#include "../common/workspace.h"
#include "backprojection_math.h"

#if defined(__AVX512F__)
namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

constexpr int64_t kMargin = 64;        // zeros around a line of pixels
constexpr double kMostAcross = 28.0;   // pixels that 16 voxels may span to be read without a gather
constexpr int64_t kLongest = 1000000;  // pixels of a line

inline __m512 lane_numbers() { return _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); }

// The pixels `at` and the next ones of two neighbouring vectors, linearly.
inline __m512 mix_lanes(__m512 a, __m512 b, __m512i at, __m512 share) {
  const __m512 v0 = _mm512_permutex2var_ps(a, at, b);
  const __m512 v1 = _mm512_permutex2var_ps(a, _mm512_add_epi32(at, _mm512_set1_epi32(1)), b);
  return _mm512_fmadd_ps(share, _mm512_sub_ps(v1, v0), v0);
}

// The line at `whole` + local, wherever that is, linearly; n pixels, zeros around them.
inline __m512 gather_line(const float* line, int64_t n, int64_t whole, __m512 local) {
  const __m512 low = _mm512_set1_ps(static_cast<float>(-1 - whole));
  const __m512 high = _mm512_set1_ps(static_cast<float>(n - whole));
  local = _mm512_min_ps(_mm512_max_ps(local, low), high);
  const __m512 down = _mm512_roundscale_ps(local, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  const __m512i at = _mm512_cvttps_epi32(down);
  const __m512 v0 = _mm512_i32gather_ps(at, line + whole, 4), v1 = _mm512_i32gather_ps(at, line + whole + 1, 4);
  return _mm512_fmadd_ps(_mm512_sub_ps(local, down), _mm512_sub_ps(v1, v0), v0);
}

// A place that a float can hold with its fraction, NaN too; no line is so long.
inline double bounded(double place) {
  constexpr double most = static_cast<double>(kLongest);
  return place > -most ? (place < most ? place : most) : -most;
}

// How 16 neighbouring voxels along `axis` are seen on a detector axis (0 columns, 1 rows).
enum class Sight : uint8_t { behind, far, near };

// `near`: they span few enough pixels wherever they are; `behind`: some voxel is not in front of the source.
inline Sight sight_of(const BackprojectionParams& p, const double* m, int axis, int pixel_axis) {
  const double* n = m + 4 * pixel_axis;
  const double* d = m + 8;
  double least = 1e300, most = 0.0;
  Sight sight = Sight::near;
  for (int corner = 0; corner < 8; ++corner) {
    double num = n[3], den = d[3];
    for (int a = 0; a < 3; ++a) {
      const double at = (corner >> a & 1) ? static_cast<double>(p.size[a] - 1) : 0.0;
      num += n[a] * at;
      den += d[a] * at;
    }
    if (!(den > 0.0)) return Sight::behind;
    least = smaller(least, den);
    most = larger(most, den);
    // d(num / den) = (n_a den - num d_a) / den^2; between corners it may be a fifth larger where the depth changes
    // 2.5 fold.
    if (!(std::fabs(n[axis] * den - num * d[axis]) * 15.0 < kMostAcross * 0.8 * den * den)) sight = Sight::far;
  }
  return most <= 2.5 * least ? sight : Sight::far;
}

inline bool flat_lines_fit(const BackprojectionParams& p) {
  if (p.rows != 1 || p.size[2] != 1 || p.cols >= kLongest) return false;
  for (int64_t view = 0; view < p.views; ++view) {
    const double* m = p.matrices + 12 * view;
    if (m[4] != 0.0 || m[5] != 0.0 || m[7] != 0.0 || sight_of(p, m, 0, 0) == Sight::behind) return false;
  }
  return true;
}

// Adds one view to the voxels of row y; `line` holds its pixels. `Even`: the depth does not change along the row.
template <bool Even, bool Near>
inline void backproject_row(const BackprojectionParams& p, const double* m, double scale, const float* line, double y,
                            float* row) {
  const int64_t width = p.size[0];
  const double num = m[1] * y + m[3], den = m[9] * y + m[11], end = static_cast<double>(p.cols);
  const double even = m[8] == 0.0 && m[9] == 0.0 ? 1.0 / m[11] : 1.0 / den;
  const bool rising = m[0] * den > num * m[8];
  const __m512 scale16 = _mm512_set1_ps(static_cast<float>(p.weighted && Even ? scale * even * even : scale));
  const __m512 lanes = lane_numbers(), one = _mm512_set1_ps(1.0f);
  for (int64_t x0 = 0; x0 < width; x0 += 16) {
    const int64_t most = width - x0 < 16 ? width - x0 - 1 : 15;
    const int64_t base = rising || !Near ? 0 : most;  // the lane that is seen lowest
    const double x = static_cast<double>(x0 + base);
    const double per = Even ? even : 1.0 / (m[8] * x + den);
    const double place = Near ? (m[0] * x + num) * per : bounded((m[0] * x + num) * per);
    if (Near && !(place > -2.0 - kMostAcross && place < end)) continue;
    const double whole = std::floor(place);
    // place + lane (n_x - place d_x) / den(lane), exact in the lane's share of the change
    const __m512 slope = _mm512_set1_ps(static_cast<float>(Even ? m[0] * per : (m[0] - place * m[8]) * per));
    const __m512 frac = _mm512_set1_ps(static_cast<float>(place - whole));
    const __m512 lane = base == 0 ? lanes : _mm512_sub_ps(lanes, _mm512_set1_ps(static_cast<float>(base)));
    __m512 local, weight = scale16;
    if (Even) {
      local = _mm512_fmadd_ps(lane, slope, frac);
    } else {
      const __m512 grow =
          _mm512_fmadd_ps(lane, _mm512_set1_ps(static_cast<float>(m[8] * per)), one);  // den(lane) / den
      const __m512 first = _mm512_rcp14_ps(grow);
      const __m512 shrink = _mm512_fmadd_ps(first, _mm512_fnmadd_ps(grow, first, one), first);
      local = _mm512_fmadd_ps(_mm512_mul_ps(lane, slope), shrink, frac);
      if (p.weighted) {
        const __m512 nearer = _mm512_mul_ps(shrink, _mm512_set1_ps(static_cast<float>(per)));
        weight = _mm512_mul_ps(weight, _mm512_mul_ps(nearer, nearer));
      }
    }
    __m512 value;
    if (Near) {
      const __m512 down = _mm512_roundscale_ps(local, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
      const float* from = line + static_cast<int64_t>(whole);
      value = mix_lanes(_mm512_loadu_ps(from), _mm512_loadu_ps(from + 16), _mm512_cvttps_epi32(down),
                        _mm512_sub_ps(local, down));
    } else {
      value = gather_line(line, p.cols, static_cast<int64_t>(whole), local);
    }
    if (most == 15) {
      _mm512_storeu_ps(row + x0, _mm512_fmadd_ps(weight, value, _mm512_loadu_ps(row + x0)));
    } else {
      const __mmask16 keep = static_cast<__mmask16>((2u << most) - 1);
      _mm512_mask_storeu_ps(row + x0, keep, _mm512_fmadd_ps(weight, value, _mm512_maskz_loadu_ps(keep, row + x0)));
    }
  }
}

inline void backproject_lines(const BackprojectionParams& p, const float* proj, float* image) {
  constexpr int64_t kViews = 16;
  const int64_t width = p.size[0], height = p.size[1], pitch = p.cols + 2 * kMargin;
  float* lines = static_cast<float*>(workspace(0, kViews * pitch * static_cast<int64_t>(sizeof(float)))) + kMargin;
  for (int64_t i = 0; i < kViews * pitch; ++i) lines[i - kMargin] = 0.0f;
  bool near[kViews];
  for (int64_t v0 = 0; v0 < p.views; v0 += kViews) {
    const int64_t count = p.views - v0 < kViews ? p.views - v0 : kViews;
    for (int64_t v = 0; v < count; ++v) {
      __builtin_memcpy(lines + v * pitch, proj + (v0 + v) * p.cols, static_cast<size_t>(p.cols) * sizeof(float));
      near[v] = sight_of(p, p.matrices + 12 * (v0 + v), 0, 0) == Sight::near;
    }
    parallel_for(0, height, 8, [&](int64_t begin, int64_t end) {
      for (int64_t y = begin; y < end; ++y) {
        float* row = image + y * width;
        for (int64_t x = 0; v0 == 0 && x < width; ++x) row[x] = 0.0f;
        for (int64_t v = 0; v < count; ++v) {
          const double *m = p.matrices + 12 * (v0 + v), at_y = static_cast<double>(y), scale = p.scale[v0 + v];
          const auto add = m[8] == 0.0 ? (near[v] ? backproject_row<true, true> : backproject_row<true, false>)
                                       : (near[v] ? backproject_row<false, true> : backproject_row<false, false>);
          add(p, m, scale, lines + v * pitch, at_y, row);
        }
      }
    });
  }
}

inline bool columns_fit(const BackprojectionParams& p) {
  if (p.rows >= kLongest) return false;
  for (int64_t view = 0; view < p.views; ++view) {
    const double* m = p.matrices + 12 * view;
    if (m[2] != 0.0 || m[10] != 0.0 || m[6] == 0.0 || sight_of(p, m, 2, 1) == Sight::behind) return false;
  }
  return true;
}

// (rows, cols) of a view to (cols, pitch), the first row at kMargin, by tiles.
inline void turn_view(const BackprojectionParams& p, const float* proj, int64_t pitch, float* to) {
  constexpr int64_t kTile = 16;
  for (int64_t c0 = 0; c0 < p.cols; c0 += kTile) {
    const int64_t c1 = c0 + kTile < p.cols ? c0 + kTile : p.cols;
    for (int64_t row = 0; row < p.rows; ++row) {
      for (int64_t c = c0; c < c1; ++c) to[c * pitch + kMargin + row] = proj[row * p.cols + c];
    }
    for (int64_t c = c0; c < c1; ++c) {
      for (int64_t i = 0; i < kMargin; ++i) to[c * pitch + i] = to[(c + 1) * pitch - 1 - i] = 0.0f;
    }
  }
}

// Adds one view to the voxels of column (x, y).
template <bool Near>
inline void backproject_column(const BackprojectionParams& p, const double* m, double scale, const float* turned,
                               int64_t pitch, const float* nothing, double x, double y, float* to) {
  const double per = 1.0 / (m[8] * x + m[9] * y + m[11]);
  const double col = (m[0] * x + m[1] * y + m[3]) * per, whole_col = std::floor(col);
  if (!(col > -1.0 && col < static_cast<double>(p.cols))) return;
  const int64_t c = static_cast<int64_t>(whole_col);
  const float* left = c >= 0 ? turned + c * pitch + kMargin : nothing;
  const float* right = c + 1 < p.cols ? turned + (c + 1) * pitch + kMargin : nothing;
  const double row0 = (m[4] * x + m[5] * y + m[7]) * per, row1 = m[6] * per;
  const __m512 share = _mm512_set1_ps(static_cast<float>(col - whole_col));
  const __m512 weight = _mm512_set1_ps(static_cast<float>(p.weighted ? scale * per * per : scale));
  const double base = Near && row1 < 0.0 ? 15.0 : 0.0;  // the lane that is seen lowest
  const __m512 lane = _mm512_sub_ps(lane_numbers(), _mm512_set1_ps(static_cast<float>(base)));
  const __m512 steps = _mm512_mul_ps(lane, _mm512_set1_ps(static_cast<float>(row1)));
  for (int64_t z0 = 0; z0 < p.size[2]; z0 += 16) {
    const double at = row0 + row1 * (static_cast<double>(z0) + base), row = Near ? at : bounded(at);
    if (Near && !(row > -2.0 - kMostAcross && row < static_cast<double>(p.rows))) continue;
    const int64_t whole = static_cast<int64_t>(std::floor(row));
    const __m512 local = _mm512_add_ps(steps, _mm512_set1_ps(static_cast<float>(row - static_cast<double>(whole))));
    __m512 value;
    if (Near) {
      const __m512 down = _mm512_roundscale_ps(local, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
      const float *one = left + whole, *other = right + whole;
      __m512 a = _mm512_loadu_ps(one), b = _mm512_loadu_ps(one + 16);
      a = _mm512_fmadd_ps(share, _mm512_sub_ps(_mm512_loadu_ps(other), a), a);
      b = _mm512_fmadd_ps(share, _mm512_sub_ps(_mm512_loadu_ps(other + 16), b), b);
      value = mix_lanes(a, b, _mm512_cvttps_epi32(down), _mm512_sub_ps(local, down));
    } else {
      const __m512 a = gather_line(left, p.rows, whole, local), b = gather_line(right, p.rows, whole, local);
      value = _mm512_fmadd_ps(share, _mm512_sub_ps(b, a), a);
    }
    _mm512_storeu_ps(to + z0, _mm512_fmadd_ps(weight, value, _mm512_loadu_ps(to + z0)));
  }
}

inline void backproject_columns(const BackprojectionParams& p, const float* proj, float* volume) {
  constexpr int64_t kViews = 8;
  const int64_t width = p.size[0], height = p.size[1], depth = p.size[2];
  const int64_t standing_pitch = (depth + 15) / 16 * 16, pitch = p.rows + 2 * kMargin, view_floats = p.cols * pitch;
  const int64_t floats = width * height * standing_pitch + (kViews * view_floats + pitch);
  float* standing = static_cast<float*>(workspace(0, floats * static_cast<int64_t>(sizeof(float))));
  float* turned = standing + width * height * standing_pitch;
  float* nothing = turned + kViews * view_floats;
  bool near[kViews];
  for (int64_t i = 0; i < pitch; ++i) nothing[i] = 0.0f;
  for (int64_t i = 0; i < width * height * standing_pitch; ++i) standing[i] = 0.0f;
  for (int64_t v0 = 0; v0 < p.views; v0 += kViews) {
    const int64_t count = p.views - v0 < kViews ? p.views - v0 : kViews;
    parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t v = begin; v < end; ++v) {
        turn_view(p, proj + (v0 + v) * p.pixels(), pitch, turned + v * view_floats);
        near[v] = sight_of(p, p.matrices + 12 * (v0 + v), 2, 1) == Sight::near;
      }
    });
    parallel_for(0, height, 1, [&](int64_t begin, int64_t end) {
      for (int64_t y = begin; y < end; ++y) {
        for (int64_t v = 0; v < count; ++v) {
          const double* m = p.matrices + 12 * (v0 + v);
          const auto add = near[v] ? backproject_column<true> : backproject_column<false>;
          for (int64_t x = 0; x < width; ++x) {
            add(p, m, p.scale[v0 + v], turned + v * view_floats, pitch, nothing + kMargin, static_cast<double>(x),
                static_cast<double>(y), standing + (y * width + x) * standing_pitch);
          }
        }
      }
    });
  }
  parallel_for(0, height, 1, [&](int64_t begin, int64_t end) {
    for (int64_t y = begin; y < end; ++y) {
      for (int64_t z = 0; z < depth; ++z) {
        float* row = volume + (z * height + y) * width;
        for (int64_t x = 0; x < width; ++x) row[x] = standing[(y * width + x) * standing_pitch + z];
      }
    }
  });
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
#endif
