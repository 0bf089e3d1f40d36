// The adjoint of Joseph's projector for upright detector columns, for float32: a column is spread over a line of
// voxels, 16 at a time, and added to the two columns of voxels beside it.
#pragma once
#include "columns_avx512.h"

#if defined(__AVX512F__)
namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

// For the adjoint 16 neighbouring voxels must meet at most 29 rows less the candidates of each.
inline int column_candidates(double step) { return step > 0.05 ? static_cast<int>(2.0 / step + 0.03) + 1 : 64; }

inline bool column_spreads(const ProjectionParams& p, const DetectorColumn& c) {
  if (!c.fits) return false;
  if (c.first >= c.last) return true;
  const double middle = static_cast<double>(middle_voxel(p.size[c.axis]));
  const double ends[2] = {static_cast<double>(c.first) - middle, static_cast<double>(c.last - 1) - middle};
  for (double k : ends) {
    const double step = c.step[0] + k * c.step[1];
    if (!(step * (29.0 - column_candidates(step)) > 15.0)) return false;
  }
  return true;
}

// Which main axes (bit 0: x, bit 1: y, bit 2: z) a view leaves to the portable way.
inline uint8_t columns_left(const ProjectionParams& p, const DetectorColumn* columns) {
  uint8_t left = 0;
  for (int64_t col = 0; col < p.cols; ++col) {
    const DetectorColumn& c = columns[col];
    if (!column_spreads(p, c)) left |= static_cast<uint8_t>(1 << c.axis);
    if (c.row_first > 0 || c.row_last < p.rows) left |= 4;
  }
  return left;
}

// Adds a detector column (values times lengths, zeros around) to the voxel columns beside it in slice k.
inline void spread_column(const ProjectionParams& p, const DetectorColumn& c, int64_t k, const float* values,
                          float* slice, int64_t stride_a) {
  const int64_t middle_z = middle_voxel(p.size[2]), n = p.size[1 - c.axis], depth = p.size[2];
  const double at = static_cast<double>(k - middle_voxel(p.size[c.axis]));
  const float f = fma_of(static_cast<float>(at), c.slope, c.base), whole = std::floor(f);
  const int64_t i = static_cast<int64_t>(whole) + middle_voxel(n);
  const bool in_left = i >= 0 && i < n, in_right = i + 1 >= 0 && i + 1 < n;
  if (!in_left && !in_right) return;
  const float height = static_cast<float>(c.height[0] + at * c.height[1]);
  const float step = static_cast<float>(c.step[0] + at * c.step[1]);
  const double low = static_cast<double>(height) - 1.0 + static_cast<double>(middle_z);
  const double high = low + static_cast<double>(step) * static_cast<double>(p.rows - 1) + 2.0;
  if (!(high > 0.0) || !(low < static_cast<double>(depth))) return;
  const int64_t z_first = low > 0.0 ? static_cast<int64_t>(low) : 0;
  const int64_t z_last = high < static_cast<double>(depth - 1) ? static_cast<int64_t>(high) + 1 : depth;
  float* left = slice + i * stride_a;
  float* right = left + stride_a;
  const __m512 wr = _mm512_set1_ps(f - whole), wl = _mm512_set1_ps(1.0f - (f - whole));
  const __m512 lanes = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512 one = _mm512_set1_ps(1.0f), zero = _mm512_setzero_ps();
  const __m512 steps = _mm512_set1_ps(step), heights = _mm512_set1_ps(height);
  const __m512 per_step = _mm512_set1_ps(1.0f / step);
  const __m512 least = _mm512_set1_ps(-4.0f), most = _mm512_set1_ps(static_cast<float>(p.rows));
  const int candidates = column_candidates(static_cast<double>(step));
  for (int64_t z0 = z_first; z0 < z_last; z0 += 16) {
    const __m512 z = _mm512_add_ps(_mm512_set1_ps(static_cast<float>(z0 - middle_z)), lanes);
    __m512 row = _mm512_mul_ps(_mm512_sub_ps(_mm512_sub_ps(z, one), heights), per_step);
    row = _mm512_add_ps(_mm512_roundscale_ps(_mm512_sub_ps(row, _mm512_set1_ps(0.01f)), 1), one);
    row = _mm512_min_ps(_mm512_max_ps(row, least), most);
    const __m512i r = _mm512_cvttps_epi32(row);
    const float* from = values + _mm_cvtsi128_si32(_mm512_castsi512_si128(r));
    __m512i index = _mm512_sub_epi32(r, _mm512_broadcastd_epi32(_mm512_castsi512_si128(r)));
    const __m512 g0 = _mm512_loadu_ps(from), g1 = _mm512_loadu_ps(from + 16);
    __m512 sum = zero;
    for (int j = 0; j < candidates; ++j) {
      const __m512 place = _mm512_fmadd_ps(row, steps, heights);
      const __m512 weight = _mm512_max_ps(zero, _mm512_sub_ps(one, _mm512_abs_ps(_mm512_sub_ps(place, z))));
      sum = _mm512_fmadd_ps(weight, _mm512_permutex2var_ps(g0, index, g1), sum);
      index = _mm512_add_epi32(index, _mm512_set1_epi32(1));
      row = _mm512_add_ps(row, one);
    }
    const __mmask16 keep = z_last - z0 < 16 ? static_cast<__mmask16>((1u << (z_last - z0)) - 1) : 0xFFFF;
    if (in_left) {
      _mm512_mask_storeu_ps(left + z0, keep, _mm512_fmadd_ps(wl, sum, _mm512_maskz_loadu_ps(keep, left + z0)));
    }
    if (in_right) {
      _mm512_mask_storeu_ps(right + z0, keep, _mm512_fmadd_ps(wr, sum, _mm512_maskz_loadu_ps(keep, right + z0)));
    }
  }
}

// The detector columns of a view and their values times lengths; returns what columns_left says.
inline uint8_t prepare_columns(const ProjectionParams& p, int64_t view, const float* proj, DetectorColumn* columns,
                               float* values, int64_t pitch) {
  const ViewFrame f = load_view(p, view);
  if (!columns_upright(f)) {
    for (int64_t col = 0; col < p.cols; ++col) columns[col].first = columns[col].last = 0;
    return 7;
  }
  for (int64_t col = 0; col < p.cols; ++col) columns[col] = detector_column(p, f, col);
  const uint8_t left = columns_left(p, columns);
  const float* from = proj + view * p.rows * p.cols;
  for (int64_t col = 0; col < p.cols; ++col) {
    DetectorColumn& c = columns[col];
    if (left >> c.axis & 1) c.first = c.last = 0;
    float* line = values + col * pitch + kGuard;
    for (int64_t i = -kGuard; i < pitch - kGuard; ++i) line[i] = 0.0f;
    for (int64_t row = c.row_first; row < c.row_last; ++row) {
      line[c.turned ? p.rows - 1 - row : row] = from[row * p.cols + col];
    }
    for (int64_t row = 0; row < p.rows; row += 16) {
      _mm512_storeu_ps(line + row, _mm512_mul_ps(_mm512_loadu_ps(line + row), column_lengths(c, row)));
    }
  }
  return left;
}

inline void adjoint_columns(const ProjectionParams& p, const float* proj, float* volume) {
  constexpr int64_t kViews = 8;
  const int64_t width = p.size[0], height = p.size[1], depth = p.size[2], pitch = (depth + 15) / 16 * 16;
  const int64_t line = p.rows + 2 * kGuard, view_floats = p.cols * line, view_columns = p.cols;
  const int64_t column_bytes = (kViews * view_columns * static_cast<int64_t>(sizeof(DetectorColumn)) + 63) / 64 * 64;
  char* scratch = static_cast<char*>(workspace(
      0, column_bytes + (width * height * pitch + kViews * view_floats) * static_cast<int64_t>(sizeof(float))));
  DetectorColumn* columns = reinterpret_cast<DetectorColumn*>(scratch);
  float* standing = reinterpret_cast<float*>(scratch + column_bytes);
  float* values = standing + width * height * pitch;
  uint8_t* left = static_cast<uint8_t*>(workspace(2, p.views));
  for (int64_t i = 0; i < width * height * pitch; ++i) standing[i] = 0.0f;
  for (int64_t v0 = 0; v0 < p.views; v0 += kViews) {
    const int64_t count = p.views - v0 < kViews ? p.views - v0 : kViews;
    parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t v = begin; v < end; ++v) {
        left[v0 + v] = prepare_columns(p, v0 + v, proj, columns + v * view_columns, values + v * view_floats, line);
      }
    });
    for (int axis = 0; axis < 2; ++axis) {
      const int64_t stride_k = axis == 0 ? pitch : pitch * width, stride_a = axis == 0 ? pitch * width : pitch;
      parallel_for(0, p.size[axis], 4, [&](int64_t begin, int64_t end) {
        for (int64_t v = 0; v < count; ++v) {
          for (int64_t k = begin; k < end; ++k) {
            for (int64_t col = 0; col < p.cols; ++col) {
              const DetectorColumn& c = columns[v * view_columns + col];
              if (c.axis != axis || k < c.first || k >= c.last) continue;
              spread_column(p, c, k, values + v * view_floats + col * line + kGuard, standing + k * stride_k, stride_a);
            }
          }
        }
      });
    }
  }
  parallel_for(0, height, 1, [&](int64_t begin, int64_t end) {
    for (int64_t y = begin; y < end; ++y) {
      for (int64_t z = 0; z < depth; ++z) {
        float* row = volume + (z * height + y) * width;
        for (int64_t x = 0; x < width; ++x) row[x] = standing[(y * width + x) * pitch + z];
      }
    }
  });
  for (int axis = 0; axis < 3; ++axis) spread_left(p, axis, proj, volume, left);
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
#endif
