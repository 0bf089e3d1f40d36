// Voxel-driven back-projection in float32, 16 voxels at a time: along x in a slice, along z where voxels of a column
// share their place on the detector's columns (every circular scan). Neighbouring voxels are seen about a pixel apart,
// so two loads and two permutations read the pixels of all 16.
//
// A place is kept as a whole pixel in double precision plus a small local part in single precision.
#pragma once
#include "../common/parallel.h"
#include "../common/workspace.h"
#include "backprojection_math.h"

#if defined(__AVX512F__)
namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

constexpr int64_t kMargin = 64;       // zeros around a line of pixels
constexpr double kMostAcross = 28.0;  // pixels that 16 voxels may span

inline __m512 lane_numbers() { return _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); }

// The line at whole + local, linearly; `end` is the lane (0 or 15) with the lowest place. Places are clamped to
// [-1, n], where the line is zero.
inline __m512 read_line(const float* line, int64_t n, int64_t whole, __m512 local, __m512i end, __m512& a, __m512& b,
                        __m512i& at) {
  const __m512 low = _mm512_set1_ps(static_cast<float>(-1 - whole));
  const __m512 high = _mm512_set1_ps(static_cast<float>(n - whole));
  local = _mm512_min_ps(_mm512_max_ps(local, low), high);
  const __m512 down = _mm512_roundscale_ps(local, 1);
  const __m512i i = _mm512_cvttps_epi32(down);
  const __m512i lowest = _mm512_permutexvar_epi32(end, i);
  at = _mm512_sub_epi32(i, lowest);
  const float* from = line + whole + _mm_cvtsi128_si32(_mm512_castsi512_si128(lowest));
  a = _mm512_loadu_ps(from);
  b = _mm512_loadu_ps(from + 16);
  return _mm512_sub_ps(local, down);
}

inline __m512 mix_lanes(__m512 a, __m512 b, __m512i at, __m512 share) {
  const __m512 v0 = _mm512_permutex2var_ps(a, at, b);
  const __m512 v1 = _mm512_permutex2var_ps(a, _mm512_add_epi32(at, _mm512_set1_epi32(1)), b);
  return _mm512_fmadd_ps(share, _mm512_sub_ps(v1, v0), v0);
}

// Whether 16 voxels along an axis span few enough pixels of a detector axis (0 columns, 1 rows) wherever the depth is
// positive in the whole volume.
inline bool voxels_near(const BackprojectionParams& p, const double* m, int axis, int pixel_axis) {
  const double* n = m + 4 * pixel_axis;
  const double* d = m + 8;
  double least = 1e300, most = 0.0;
  for (int corner = 0; corner < 8; ++corner) {
    double num = n[3], den = d[3];
    for (int a = 0; a < 3; ++a) {
      const double at = (corner >> a & 1) ? static_cast<double>(p.size[a] - 1) : 0.0;
      num += n[a] * at;
      den += d[a] * at;
    }
    if (!(den > 0.0)) return false;
    least = smaller(least, den);
    most = larger(most, den);
    // d(num / den) = (n_a den - num d_a) / den^2; between corners it may be a fifth larger where the depth changes
    // 2.5 fold.
    if (!(std::fabs(n[axis] * den - num * d[axis]) * 15.0 < kMostAcross * 0.8 * den * den)) return false;
  }
  return most <= 2.5 * least;
}

inline bool flat_lines_fit(const BackprojectionParams& p) {
  if (p.rows != 1 || p.size[2] != 1) return false;
  for (int64_t view = 0; view < p.views; ++view) {
    const double* m = p.matrices + 12 * view;
    if (m[4] != 0.0 || m[5] != 0.0 || m[7] != 0.0 || !voxels_near(p, m, 0, 0)) return false;
  }
  return true;
}

inline void backproject_lines(const BackprojectionParams& p, const float* proj, float* image) {
  constexpr int64_t kViews = 16;
  const int64_t width = p.size[0], height = p.size[1], pitch = p.cols + 2 * kMargin;
  float* lines = static_cast<float*>(workspace(0, kViews * pitch * static_cast<int64_t>(sizeof(float)))) + kMargin;
  for (int64_t i = 0; i < kViews * pitch; ++i) lines[i - kMargin] = 0.0f;
  for (int64_t v0 = 0; v0 < p.views; v0 += kViews) {
    const int64_t count = p.views - v0 < kViews ? p.views - v0 : kViews;
    for (int64_t v = 0; v < count; ++v) {
      __builtin_memcpy(lines + v * pitch, proj + (v0 + v) * p.cols, static_cast<size_t>(p.cols) * sizeof(float));
    }
    parallel_for(0, height, 8, [&](int64_t begin, int64_t end) {
      const __m512 lanes = lane_numbers();
      for (int64_t y = begin; y < end; ++y) {
        for (int64_t x0 = 0; x0 < width; x0 += 16) {
          const __mmask16 keep = width - x0 < 16 ? static_cast<__mmask16>((1u << (width - x0)) - 1) : 0xFFFF;
          float* to = image + y * width + x0;
          __m512 sum = v0 == 0 ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(keep, to);
          for (int64_t v = 0; v < count; ++v) {
            const double* m = p.matrices + 12 * (v0 + v);
            const double at_x = static_cast<double>(x0), at_y = static_cast<double>(y);
            const double num = m[0] * at_x + m[1] * at_y + m[3], den = m[8] * at_x + m[9] * at_y + m[11];
            const double per = m[8] == 0.0 && m[9] == 0.0 ? 1.0 / m[11] : 1.0 / den;
            const double place = num * per, whole = std::floor(place);
            if (!(place > -64.0 && place < static_cast<double>(p.cols + 64))) continue;
            // place + lane (n_x - place d_x) / den(lane), exact in the lane's share of the change
            const __m512 slope = _mm512_set1_ps(static_cast<float>((m[0] - place * m[8]) * per));
            const __m512 frac = _mm512_set1_ps(static_cast<float>(place - whole));
            __m512 local, weight = _mm512_set1_ps(static_cast<float>(p.scale[v0 + v]));
            if (m[8] == 0.0) {
              local = _mm512_fmadd_ps(lanes, slope, frac);
              if (p.weighted) weight = _mm512_set1_ps(static_cast<float>(p.scale[v0 + v] * per * per));
            } else {
              const __m512 grow = _mm512_fmadd_ps(lanes, _mm512_set1_ps(static_cast<float>(m[8] * per)),
                                                  _mm512_set1_ps(1.0f));  // den(lane) / den
              const __m512 shrink = _mm512_div_ps(_mm512_set1_ps(1.0f), grow);
              local = _mm512_fmadd_ps(_mm512_mul_ps(lanes, slope), shrink, frac);
              if (p.weighted) {
                const __m512 all = _mm512_set1_ps(static_cast<float>(p.scale[v0 + v] * per * per));
                weight = _mm512_mul_ps(all, _mm512_mul_ps(shrink, shrink));
              }
            }
            __m512 a, b;
            __m512i at;
            const __m512i ends = _mm512_set1_epi32(_mm512_cvtss_f32(slope) < 0.0f ? 15 : 0);
            const __m512 share =
                read_line(lines + v * pitch, p.cols, static_cast<int64_t>(whole), local, ends, a, b, at);
            sum = _mm512_fmadd_ps(weight, mix_lanes(a, b, at, share), sum);
          }
          _mm512_mask_storeu_ps(to, keep, sum);
        }
      }
    });
  }
}

inline bool columns_fit(const BackprojectionParams& p) {
  for (int64_t view = 0; view < p.views; ++view) {
    const double* m = p.matrices + 12 * view;
    if (m[2] != 0.0 || m[10] != 0.0 || m[6] == 0.0 || !voxels_near(p, m, 2, 1)) return false;
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
  const __m512 steps = _mm512_mul_ps(lane_numbers(), _mm512_set1_ps(static_cast<float>(row1)));
  const __m512i ends = _mm512_set1_epi32(row1 < 0.0 ? 15 : 0);
  for (int64_t z0 = 0; z0 < p.size[2]; z0 += 16) {
    const double row = row0 + row1 * static_cast<double>(z0), whole = std::floor(row);
    if (!(row > -40.0 && row < static_cast<double>(p.rows + 40))) continue;
    const __m512 local = _mm512_add_ps(steps, _mm512_set1_ps(static_cast<float>(row - whole)));
    __m512 a, b;
    __m512i at;
    const __m512 down = read_line(left, p.rows, static_cast<int64_t>(whole), local, ends, a, b, at);
    const int64_t jump = right - left;
    // The same pixels of the column to the right.
    const __m512 low = _mm512_set1_ps(static_cast<float>(-1 - static_cast<int64_t>(whole)));
    const __m512 high = _mm512_set1_ps(static_cast<float>(p.rows - static_cast<int64_t>(whole)));
    const __m512i i = _mm512_cvttps_epi32(_mm512_roundscale_ps(_mm512_min_ps(_mm512_max_ps(local, low), high), 1));
    const float* from = left + jump + static_cast<int64_t>(whole) +
                        _mm_cvtsi128_si32(_mm512_castsi512_si128(_mm512_permutexvar_epi32(ends, i)));
    a = _mm512_fmadd_ps(share, _mm512_sub_ps(_mm512_loadu_ps(from), a), a);
    b = _mm512_fmadd_ps(share, _mm512_sub_ps(_mm512_loadu_ps(from + 16), b), b);
    const __m512 value = mix_lanes(a, b, at, down);
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
  for (int64_t i = 0; i < pitch; ++i) nothing[i] = 0.0f;
  for (int64_t i = 0; i < width * height * standing_pitch; ++i) standing[i] = 0.0f;
  for (int64_t v0 = 0; v0 < p.views; v0 += kViews) {
    const int64_t count = p.views - v0 < kViews ? p.views - v0 : kViews;
    parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t v = begin; v < end; ++v) {
        turn_view(p, proj + (v0 + v) * p.pixels(), pitch, turned + v * view_floats);
      }
    });
    parallel_for(0, height, 1, [&](int64_t begin, int64_t end) {
      for (int64_t y = begin; y < end; ++y) {
        for (int64_t v = 0; v < count; ++v) {
          const double* m = p.matrices + 12 * (v0 + v);
          for (int64_t x = 0; x < width; ++x) {
            backproject_column(p, m, p.scale[v0 + v], turned + v * view_floats, pitch, nothing + kMargin,
                               static_cast<double>(x), static_cast<double>(y),
                               standing + (y * width + x) * standing_pitch);
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
