// Joseph's projector in a slice, 16 rays or 16 pixels at a time, for float32.
//
// Neighbouring rays of one main axis cross a row of the image at places that advance monotonically by about a pixel, so
// 16 of them need at most 32 neighbouring pixels: two loads and two permutations take the place of 32 gathered loads.
#pragma once
#include "../common/lanes.h"
#include "../common/parallel.h"
#include "../common/workspace.h"
#include "ray_groups.h"

#if defined(__AVX512F__)
namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

constexpr int kMaxRuns = 8;
constexpr int kFloor = 1;  // rounding mode of _mm512_roundscale_ps

// Neighbouring columns of a view whose rays share the main axis and their sense along it.
struct FlatRun {
  int axis;
  int64_t col, count;  // first column and number of columns
  bool fast;           // every slice has all rays on one side of the source
};

struct FlatRuns {
  FlatRun run[kMaxRuns];
  int count;  // kMaxRuns + 1: too many, the view is not for this file
};

inline FlatRuns flat_runs(const ProjectionParams& p, const ViewFrame& f) {
  FlatRuns runs;
  runs.count = 0;
  int last = -1;
  for (int64_t col = 0; col < p.cols; ++col) {
    const Ray ray = make_ray(p, f, 0, col);
    const int axis = main_axis(p, ray.w), kind = 2 * axis + (ray.w[axis] > 0.0);
    if (kind == last) {
      ++runs.run[runs.count - 1].count;
      continue;
    }
    if (runs.count == kMaxRuns) {
      runs.count = kMaxRuns + 1;
      return runs;
    }
    last = kind;
    const double middle = static_cast<double>(middle_voxel(p.size[axis])), at = f.start[axis] + middle;
    const bool outside = at < 0.0 || at > static_cast<double>(p.size[axis] - 1);
    runs.run[runs.count++] = {axis, col, 1, !p.diverging || outside};
  }
  return runs;
}

// An image and its transpose with two zeros between rows: pixel i of row k at k * pitch + i, and zeros at -1, n, n + 1.
struct PaddedImage {
  const float* rows[2];  // by main axis: columns (x), rows (y)
  int64_t pitch[2];

  static int64_t floats(const ProjectionParams& p, int axis) { return p.size[axis] * (p.size[1 - axis] + 2) + 128; }
};

inline PaddedImage pad_image(const ProjectionParams& p, const float* image, float* to) {
  PaddedImage out;
  const int64_t width = p.size[0], height = p.size[1];
  for (int axis = 0; axis < 2; ++axis) {
    const int64_t n = p.size[axis], m = p.size[1 - axis], pitch = m + 2;
    float* rows = to + 16;
    for (int64_t i = 0; i < 16; ++i) to[i] = 0.0f;
    for (int64_t i = n * pitch; i < PaddedImage::floats(p, axis) - 16; ++i) rows[i] = 0.0f;
    out.rows[axis] = rows;
    out.pitch[axis] = pitch;
    to += PaddedImage::floats(p, axis);
    if (axis == 1) {
      for (int64_t y = 0; y < height; ++y) {
        __builtin_memcpy(rows + y * pitch, image + y * width, static_cast<size_t>(width) * sizeof(float));
        rows[y * pitch + m] = rows[y * pitch + m + 1] = 0.0f;
      }
      continue;
    }
    constexpr int64_t kTile = 16;
    for (int64_t x0 = 0; x0 < width; x0 += kTile) {
      const int64_t x1 = x0 + kTile < width ? x0 + kTile : width;
      for (int64_t y = 0; y < height; ++y) {
        for (int64_t x = x0; x < x1; ++x) rows[x * pitch + y] = image[y * width + x];
      }
      for (int64_t x = x0; x < x1; ++x) rows[x * pitch + m] = rows[x * pitch + m + 1] = 0.0f;
    }
  }
  return out;
}

// Sums of 16 rays over slices [first, last). Lane 0 crosses at the smallest place.
inline __m512 flat_sums(const float* rows, int64_t pitch, int64_t middle_k, int64_t middle, int64_t n, __m512 base,
                        __m512 slope, int64_t first, int64_t last) {
  const __m512 low = _mm512_set1_ps(static_cast<float>(-1 - middle));
  const __m512 high = _mm512_set1_ps(static_cast<float>(n - middle));
  const __m512i one = _mm512_set1_epi32(1);
  __m512 sum0 = _mm512_setzero_ps(), sum1 = _mm512_setzero_ps();
  const float* row = rows + first * pitch + middle;
  for (int64_t k = first; k < last; ++k, row += pitch) {
    __m512 f = _mm512_fmadd_ps(_mm512_set1_ps(static_cast<float>(k - middle_k)), slope, base);
    f = _mm512_min_ps(_mm512_max_ps(f, low), high);
    const __m512 whole = _mm512_roundscale_ps(f, kFloor);
    const __m512i i = _mm512_cvttps_epi32(whole);
    const float* from = row + _mm_cvtsi128_si32(_mm512_castsi512_si128(i));
    const __m512i at = _mm512_sub_epi32(i, _mm512_broadcastd_epi32(_mm512_castsi512_si128(i)));
    const __m512 a = _mm512_loadu_ps(from), b = _mm512_loadu_ps(from + 16);
    const __m512 v0 = _mm512_permutex2var_ps(a, at, b);
    const __m512 v1 = _mm512_permutex2var_ps(a, _mm512_add_epi32(at, one), b);
    sum0 = _mm512_add_ps(sum0, v0);
    sum1 = _mm512_fmadd_ps(_mm512_sub_ps(f, whole), _mm512_sub_ps(v1, v0), sum1);
  }
  return _mm512_add_ps(sum0, sum1);
}

inline __m512i reversed_lanes(int count) {
  alignas(64) int32_t lane[16];
  for (int i = 0; i < 16; ++i) lane[i] = i < count ? count - 1 - i : i;
  return _mm512_load_si512(lane);
}

// Up to 16 neighbouring rays of a run.
struct FlatGroup {
  float base[16], slope[16], length[16];
  int64_t first, last;  // hull of the rays' slices
  int count;
  bool fits;  // 32 pixels hold them all in every slice
  bool falling;
};

inline FlatGroup flat_group(const ProjectionParams& p, const ViewFrame& f, const FlatRun& run, int64_t done,
                            int64_t most) {
  FlatGroup g;
  g.count = static_cast<int>(run.count - done < most ? run.count - done : most);
  g.first = INT64_MAX;
  g.last = 0;
  for (int i = 0; i < 16; ++i) {
    const int64_t col = run.col + done + (i < g.count ? i : g.count - 1);
    const Crossings<float> c = make_crossings<float>(p, make_ray(p, f, 0, col), run.axis);
    g.base[i] = c.base[0];
    g.slope[i] = c.slope[0];
    g.length[i] = c.length;
    if (c.first >= c.last) continue;
    g.first = c.first < g.first ? c.first : g.first;
    g.last = c.last > g.last ? c.last : g.last;
  }
  const float middle = static_cast<float>(middle_voxel(p.size[run.axis]));
  const int e = g.count - 1;
  g.fits = true;
  const int64_t ends[2] = {g.first, g.last - 1};
  for (int64_t k : ends) {
    const float at = static_cast<float>(k) - middle;
    const float across = (g.base[e] - g.base[0]) + at * (g.slope[e] - g.slope[0]);
    g.fits = g.fits && across > -29.0f && across < 29.0f;
    g.falling = across < 0.0f;
  }
  return g;
}

inline void flat_forward_view(const ProjectionParams& p, int64_t view, const PaddedImage* images, int64_t n0,
                              int64_t count) {
  const ViewFrame f = load_view(p, view);
  const FlatRuns runs = flat_runs(p, f);
  const auto out = [&](int64_t n) { return static_cast<float*>(p.out) + ((n0 + n) * p.views + view) * p.cols; };
  const auto slow = [&](int64_t col, int64_t end) {
    for (; col < end; ++col) {
      const Ray ray = make_ray(p, f, 0, col);
      const int axis = main_axis(p, ray.w);
      const Crossings<float> c = make_crossings<float>(p, ray, axis);
      for (int64_t n = 0; n < count; ++n) {
        const float* image = static_cast<const float*>(p.in) + (n0 + n) * p.volume();
        out(n)[col] = c.first < c.last ? c.length * ray_sum<false>(p, c, axis, image) : 0.0f;
      }
    }
  };
  if (runs.count > kMaxRuns) return slow(0, p.cols);
  for (int r = 0; r < runs.count; ++r) {
    const FlatRun& run = runs.run[r];
    if (!run.fast) {
      slow(run.col, run.col + run.count);
      continue;
    }
    int64_t most = 16;  // fewer rays at once where they lie further apart
    for (int64_t done = 0, taken = 0; done < run.count; done += taken) {
      FlatGroup g = flat_group(p, f, run, done, most);
      while (g.first < g.last && !g.fits && most > 4) g = flat_group(p, f, run, done, most /= 2);
      taken = g.count;
      if (g.first < g.last && !g.fits) {
        slow(run.col + done, run.col + done + g.count);
        continue;
      }
      const __mmask16 keep = static_cast<__mmask16>((1u << g.count) - 1);
      const __m512i order = reversed_lanes(g.falling ? g.count : 0);
      const __m512 base = _mm512_permutexvar_ps(order, _mm512_loadu_ps(g.base));
      const __m512 slope = _mm512_permutexvar_ps(order, _mm512_loadu_ps(g.slope));
      for (int64_t n = 0; n < count; ++n) {
        __m512 sum = _mm512_setzero_ps();
        if (g.first < g.last) {
          sum = flat_sums(images[n].rows[run.axis], images[n].pitch[run.axis], middle_voxel(p.size[run.axis]),
                          middle_voxel(p.size[1 - run.axis]), p.size[1 - run.axis], base, slope, g.first, g.last);
          sum = _mm512_permutexvar_ps(order, sum);
        }
        _mm512_mask_storeu_ps(out(n) + run.col + done, keep, _mm512_mul_ps(sum, _mm512_loadu_ps(g.length)));
      }
    }
  }
}

inline void flat_forward(const ProjectionParams& p) {
  constexpr int64_t kImages = 4;
  const int64_t floats = PaddedImage::floats(p, 0) + PaddedImage::floats(p, 1);
  const int64_t at_once = p.batch < kImages ? p.batch : kImages;
  float* scratch = static_cast<float*>(workspace(0, at_once * floats * static_cast<int64_t>(sizeof(float))));
  for (int64_t n0 = 0; n0 < p.batch; n0 += kImages) {
    const int64_t count = p.batch - n0 < kImages ? p.batch - n0 : kImages;
    PaddedImage images[kImages];
    for (int64_t n = 0; n < count; ++n) {
      images[n] = pad_image(p, static_cast<const float*>(p.in) + (n0 + n) * p.volume(), scratch + n * floats);
    }
    parallel_for(0, p.views, 1, [&](int64_t begin, int64_t end) {
      for (int64_t view = begin; view < end; ++view) flat_forward_view(p, view, images, n0, count);
    });
  }
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
#endif
