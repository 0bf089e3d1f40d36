// Joseph's projector in 3-D for detectors whose columns run along z (every circular and helical scan), for float32.
//
// All rays of such a column cross a slice of the main axis at the same place across and at evenly spaced heights, so 16
// of them are one linear interpolation between two columns of voxels, kept with z contiguous, and two permutations.
#pragma once
#include "../common/lanes.h"
#include "../common/parallel.h"
#include "../common/workspace.h"
#include "ray_groups.h"

#if defined(__AVX512F__)
namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

constexpr int64_t kGuard = 64;  // floats around a line that vector loads may reach

// A detector column in voxel coordinates: in slice k of the main axis its rays cross at base + k slope across and at
// height[0] + k height[1] + row (step[0] + k step[1]), row counted so that heights grow.
struct DetectorColumn {
  int axis;                     // 0 or 1
  bool fits;                    // the source lies before or behind all slices, and 16 rows span at most 29 voxels
  bool turned;                  // rows run downwards
  int64_t first, last;          // slices that the column may cross; empty when it looks away
  int64_t row_first, row_last;  // rows whose main axis is `axis`; the others have z
  float base, slope;
  double height[2], step[2];
  float across_mm, w0_mm, dw_mm;  // a ray's length is sqrt(across^2 + (w0 + row dw)^2) mm a slice
};

inline bool columns_upright(const ViewFrame& f) { return f.v[0] == 0.0 && f.v[1] == 0.0 && f.v[2] != 0.0; }

inline DetectorColumn detector_column(const ProjectionParams& p, const ViewFrame& f, int64_t col) {
  DetectorColumn c{};
  const Ray low = make_ray(p, f, 0, col), high = make_ray(p, f, p.rows - 1, col);
  const double wide = larger(std::fabs(low.w[0]), std::fabs(low.w[1]));
  c.axis = std::fabs(low.w[0]) >= std::fabs(low.w[1]) ? 0 : 1;
  c.row_first = 0;
  c.row_last = p.rows;
  if (std::fabs(low.w[2]) > wide || std::fabs(high.w[2]) > wide) {
    while (c.row_first < p.rows && std::fabs(make_ray(p, f, c.row_first, col).w[2]) > wide) ++c.row_first;
    while (c.row_last > c.row_first && std::fabs(make_ray(p, f, c.row_last - 1, col).w[2]) > wide) --c.row_last;
  }
  const int m = c.axis, a = 1 - m;
  const double wm = low.w[m], slope = low.w[a] / wm, base = low.point[a] - low.point[m] * slope;
  c.base = static_cast<float>(base);
  c.slope = static_cast<float>(slope);
  const double rise = low.w[2] / wm;
  c.height[0] = low.point[2] - low.point[m] * rise;
  c.height[1] = rise;
  c.step[0] = p.diverging ? -low.point[m] * f.v[2] / wm : f.v[2];
  c.step[1] = p.diverging ? f.v[2] / wm : 0.0;
  c.turned = f.v[2] < 0.0;
  double w0 = low.w[2], dw = p.diverging ? f.v[2] : 0.0;
  if (c.turned) {
    const double end = static_cast<double>(p.rows - 1);
    for (int i = 0; i < 2; ++i) {
      c.height[i] += end * c.step[i];
      c.step[i] = -c.step[i];
    }
    w0 += end * dw;
    dw = -dw;
  }
  const double per = 1.0 / std::fabs(wm);
  const double x = low.w[0] * p.spacing[0] * per, y = low.w[1] * p.spacing[1] * per;
  c.across_mm = static_cast<float>(std::sqrt(x * x + y * y));
  c.w0_mm = static_cast<float>(w0 * p.spacing[2] * per);
  c.dw_mm = static_cast<float>(dw * p.spacing[2] * per);
  const double middle = static_cast<double>(middle_voxel(p.size[m]));
  double k_low = -middle, k_high = static_cast<double>(p.size[m] - 1) - middle;
  const double lower = static_cast<double>(-middle_voxel(p.size[a])) - 1.0;
  narrow(base, slope, lower, lower + static_cast<double>(p.size[a]) + 1.0, k_low, k_high);
  const bool away = p.diverging && (k_low - f.start[m]) / wm < 0.0;
  const bool outside = !p.diverging || f.start[m] < -middle || f.start[m] > static_cast<double>(p.size[m] - 1) - middle;
  if (k_low <= k_high && !away && c.across_mm < 1e30f) {
    c.first = static_cast<int64_t>(std::ceil(k_low) + middle);
    c.last = static_cast<int64_t>(std::floor(k_high) + middle) + 1;
  }
  c.fits = outside;
  const double ends[2] = {static_cast<double>(c.first) - middle, static_cast<double>(c.last - 1) - middle};
  for (double k : ends) c.fits = c.fits && (c.first >= c.last || c.step[0] + k * c.step[1] <= 1.8);
  return c;
}

// Lengths of 16 rays from `row` on.
inline __m512 column_lengths(const DetectorColumn& c, int64_t row) {
  const __m512 lanes = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512 r = _mm512_add_ps(_mm512_set1_ps(static_cast<float>(row)), lanes);
  const __m512 w = _mm512_fmadd_ps(r, _mm512_set1_ps(c.dw_mm), _mm512_set1_ps(c.w0_mm));
  const __m512 across = _mm512_set1_ps(c.across_mm * c.across_mm);
  return _mm512_sqrt_ps(_mm512_fmadd_ps(w, w, across));
}

// (Z, Y, X) to (Y, X, pitch), by tiles.
inline void stand_up(const ProjectionParams& p, const float* volume, int64_t pitch, float* to) {
  constexpr int64_t kTile = 16;
  const int64_t width = p.size[0], height = p.size[1], depth = p.size[2];
  parallel_for(0, height, 1, [&](int64_t begin, int64_t end) {
    for (int64_t y = begin; y < end; ++y) {
      for (int64_t z0 = 0; z0 < depth; z0 += kTile) {
        const int64_t z1 = z0 + kTile < depth ? z0 + kTile : depth;
        for (int64_t x = 0; x < width; ++x) {
          float* column = to + (y * width + x) * pitch;
          for (int64_t z = z0; z < z1; ++z) column[z] = volume[(z * height + y) * width + x];
        }
      }
      for (int64_t x = 0; x < width; ++x) {
        for (int64_t z = depth; z < pitch; ++z) to[(y * width + x) * pitch + z] = 0.0f;
      }
    }
  });
}

// What a detector column needs in one slice.
struct ColumnSlice {
  const float* left;  // the voxel columns beside it, at the middle voxel
  const float* right;
  float weight;  // of the right one
  float height, step;
};

// Narrows [low, high] to the k with base + k slope > 0.
inline void narrow_above(double base, double slope, double& low, double& high) {
  if (slope == 0.0) {
    if (!(base > 0.0)) high = low - 1.0;
  } else if (slope > 0.0) {
    low = larger(low, -base / slope - 1e-3);
  } else {
    high = smaller(high, -base / slope + 1e-3);
  }
}

// The slices of 16 rows from `row` on, of those in [c.first, c.last).
inline void column_range(const ProjectionParams& p, const DetectorColumn& c, int64_t row, int64_t& first,
                         int64_t& last) {
  const double middle = static_cast<double>(middle_voxel(p.size[c.axis]));
  const double bottom = -static_cast<double>(middle_voxel(p.size[2])) - 1.0;
  const double top = bottom + static_cast<double>(p.size[2]) + 1.0;
  double low = static_cast<double>(c.first) - middle, high = static_cast<double>(c.last - 1) - middle;
  const double r0 = static_cast<double>(row), r1 = r0 + 15.0;
  narrow_above(c.height[0] + r1 * c.step[0] - bottom, c.height[1] + r1 * c.step[1], low, high);
  narrow_above(top - c.height[0] - r0 * c.step[0], -(c.height[1] + r0 * c.step[1]), low, high);
  first = last = 0;
  if (!(low <= high)) return;
  first = static_cast<int64_t>(std::ceil(low) + middle);
  last = static_cast<int64_t>(std::floor(high) + middle) + 1;
}

inline __m512 column_sums(const ColumnSlice* slices, int64_t first, int64_t last, int64_t row, __m512 low,
                          __m512 high) {
  const __m512 lanes = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512 r = _mm512_add_ps(_mm512_set1_ps(static_cast<float>(row)), lanes);
  const __m512i one = _mm512_set1_epi32(1);
  __m512 sum0 = _mm512_setzero_ps(), sum1 = _mm512_setzero_ps();
  for (int64_t k = first; k < last; ++k) {
    const ColumnSlice& s = slices[k];
    __m512 f = _mm512_fmadd_ps(r, _mm512_set1_ps(s.step), _mm512_set1_ps(s.height));
    f = _mm512_min_ps(_mm512_max_ps(f, low), high);
    const __m512 whole = _mm512_roundscale_ps(f, 1);
    const __m512i i = _mm512_cvttps_epi32(whole);
    const int64_t from = _mm_cvtsi128_si32(_mm512_castsi512_si128(i));
    const __m512i at = _mm512_sub_epi32(i, _mm512_broadcastd_epi32(_mm512_castsi512_si128(i)));
    const __m512 weight = _mm512_set1_ps(s.weight);
    __m512 a = _mm512_loadu_ps(s.left + from), b = _mm512_loadu_ps(s.left + from + 16);
    a = _mm512_fmadd_ps(weight, _mm512_sub_ps(_mm512_loadu_ps(s.right + from), a), a);
    b = _mm512_fmadd_ps(weight, _mm512_sub_ps(_mm512_loadu_ps(s.right + from + 16), b), b);
    const __m512 v0 = _mm512_permutex2var_ps(a, at, b);
    const __m512 v1 = _mm512_permutex2var_ps(a, _mm512_add_epi32(at, one), b);
    sum0 = _mm512_add_ps(sum0, v0);
    sum1 = _mm512_fmadd_ps(_mm512_sub_ps(f, whole), _mm512_sub_ps(v1, v0), sum1);
  }
  return _mm512_add_ps(sum0, sum1);
}

// One detector column into sums[rows], rows in the order of rising heights.
inline void forward_column(const ProjectionParams& p, const DetectorColumn& c, const float* standing, int64_t pitch,
                           const float* nothing, ColumnSlice* slices, float* sums) {
  const int64_t middle_k = middle_voxel(p.size[c.axis]), middle_a = middle_voxel(p.size[1 - c.axis]);
  const int64_t middle_z = middle_voxel(p.size[2]), n = p.size[1 - c.axis];
  const int64_t stride_k = c.axis == 0 ? pitch : pitch * p.size[0], stride_a = c.axis == 0 ? pitch * p.size[0] : pitch;
  for (int64_t k = c.first; k < c.last; ++k) {
    const double at = static_cast<double>(k - middle_k);
    const float f = fma_of(static_cast<float>(at), c.slope, c.base), whole = std::floor(f);
    const int64_t i = static_cast<int64_t>(whole) + middle_a;
    const float* slice = standing + k * stride_k;
    slices[k] = {(i >= 0 && i < n ? slice + i * stride_a : nothing) + middle_z,
                 (i + 1 >= 0 && i + 1 < n ? slice + (i + 1) * stride_a : nothing) + middle_z, f - whole,
                 static_cast<float>(c.height[0] + at * c.height[1]), static_cast<float>(c.step[0] + at * c.step[1])};
  }
  const __m512 low = _mm512_set1_ps(static_cast<float>(-1 - middle_z));
  const __m512 high = _mm512_set1_ps(static_cast<float>(p.size[2] - middle_z));
  for (int64_t row = 0; row < p.rows; row += 16) {
    int64_t first = 0, last = 0;
    if (c.first < c.last) column_range(p, c, row, first, last);
    const __m512 sum = column_sums(slices, first, last, row, low, high);
    _mm512_storeu_ps(sums + row, _mm512_mul_ps(sum, column_lengths(c, row)));
  }
}

inline void forward_columns(const ProjectionParams& p) {
  constexpr int64_t kColumns = 16;
  const int64_t pitch = p.size[2] + 2, lines = p.size[0] * p.size[1] * pitch;
  const int64_t blocks = (p.cols + kColumns - 1) / kColumns, row_pitch = p.rows + 16;
  float* scratch =
      static_cast<float*>(workspace(0, (lines + pitch + 3 * kGuard) * static_cast<int64_t>(sizeof(float))));
  float* nothing = scratch + kGuard;  // an empty column; the zeros at its end stand before the first one
  float* standing = nothing + pitch + kGuard;
  for (int64_t i = -kGuard; i < pitch + kGuard; ++i) nothing[i] = 0.0f;
  for (int64_t i = 0; i < kGuard; ++i) standing[lines + i] = 0.0f;
  for (int64_t n = 0; n < p.batch; ++n) {
    const float* volume = static_cast<const float*>(p.in) + n * p.volume();
    float* out = static_cast<float*>(p.out) + n * p.views * p.rows * p.cols;
    stand_up(p, volume, pitch, standing);
    parallel_for(0, p.views * blocks, 1, [&](int64_t begin, int64_t end) {
      const int64_t slices_most = larger(static_cast<double>(p.size[0]), static_cast<double>(p.size[1]));
      const int64_t slice_bytes = slices_most * static_cast<int64_t>(sizeof(ColumnSlice));
      char* mine = static_cast<char*>(
          workspace(1, slice_bytes + 64 + kColumns * row_pitch * static_cast<int64_t>(sizeof(float))));
      float* sums = reinterpret_cast<float*>(mine);
      ColumnSlice* slices = reinterpret_cast<ColumnSlice*>(
          mine + (kColumns * row_pitch * static_cast<int64_t>(sizeof(float)) + 63) / 64 * 64);
      for (int64_t item = begin; item < end; ++item) {
        const int64_t view = item / blocks, col0 = item % blocks * kColumns;
        const int64_t count = p.cols - col0 < kColumns ? p.cols - col0 : kColumns;
        const ViewFrame f = load_view(p, view);
        const bool upright = columns_upright(f);
        float* to = out + view * p.rows * p.cols + col0;
        for (int64_t j = 0; j < count; ++j) {
          DetectorColumn c{};
          if (upright) c = detector_column(p, f, col0 + j);
          const bool fast = upright && c.fits;
          if (fast) forward_column(p, c, standing, pitch, nothing, slices, sums + j * row_pitch);
          if (fast && c.turned) {
            float* line = sums + j * row_pitch;
            for (int64_t a = 0, b = p.rows - 1; a < b; ++a, --b) {
              const float swap = line[a];
              line[a] = line[b];
              line[b] = swap;
            }
          }
          for (int64_t row = 0; row < p.rows; ++row) {
            if (fast && row >= c.row_first && row < c.row_last) continue;
            const Ray ray = make_ray(p, f, row, col0 + j);
            const int axis = main_axis(p, ray.w);
            const Crossings<float> x = make_crossings<float>(p, ray, axis);
            sums[j * row_pitch + row] = x.first < x.last ? x.length * ray_sum<false>(p, x, axis, volume) : 0.0f;
          }
        }
        for (int64_t row = 0; row < p.rows; ++row) {
          for (int64_t j = 0; j < count; ++j) to[row * p.cols + j] = sums[j * row_pitch + row];
        }
      }
    });
  }
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
#endif
