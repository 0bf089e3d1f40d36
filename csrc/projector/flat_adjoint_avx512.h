// The adjoint of Joseph's projector in a slice, 16 pixels at a time, for float32: 16 pixels of a row need at most 32
// neighbouring rays, which two loads and two permutations a candidate give them.
#pragma once
#include "flat_avx512.h"

#if defined(__AVX512F__)
namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

// A run as the adjoint needs it: rays ordered by where they cross, values times lengths, and the map from a place in
// slice k to the ray that crosses there, ray = (n1 x + n0) / (d1 x + d0) in doubles that depend on k linearly.
struct FlatLine {
  int axis;
  int64_t count, first, last;         // slices that any ray crosses
  float *base, *slope, *value;        // count entries, with 16 more before and 64 after
  double n1[2], n0[2], d1[2], d0[2];  // constant and per slice
  double step[2];                     // least distance of neighbouring rays in slice k is |step[0] + k step[1]|
};

struct FlatView {
  FlatLine line[kMaxRuns];
  int count;
};

constexpr int64_t kLineBefore = 16, kLineAfter = 64;

inline int64_t flat_view_floats(const ProjectionParams& p) {
  return 3 * (p.cols + kMaxRuns * (kLineBefore + kLineAfter));
}

// Fills the map and the least distance of a line; returns whether places grow with the column.
inline bool set_map(const ProjectionParams& p, const ViewFrame& f, const FlatRun& run, FlatLine& line) {
  const int m = run.axis, a = 1 - run.axis;
  const double k_any = -static_cast<double>(middle_voxel(p.size[m]));
  double n1[2] = {1.0, 0.0}, n0[2], d1[2] = {0.0, 0.0}, d0[2];
  if (p.diverging) {
    const double m0 = f.pixel[m] - f.start[m], m1 = f.u[m], a0 = f.pixel[a] - f.start[a], a1 = f.u[a];
    n1[0] = m0;
    n0[0] = -f.start[a] * m0 + a0 * f.start[m];
    n0[1] = -a0;
    d1[0] = -m1;
    d0[0] = f.start[a] * m1 - a1 * f.start[m];
    d0[1] = a1;
    const double turn = a1 * m0 - a0 * m1;
    const double w0 = std::fabs(m0 + m1 * static_cast<double>(run.col));
    const double w1 = std::fabs(m0 + m1 * static_cast<double>(run.col + run.count - 1));
    const double scale = turn / (larger(w0, w1) * larger(w0, w1));
    line.step[0] = -f.start[m] * scale;
    line.step[1] = scale;
  } else {
    const double s = f.start[a] / f.start[m];
    n0[0] = -f.pixel[a] + f.pixel[m] * s;
    n0[1] = -s;
    d0[0] = f.u[a] - f.u[m] * s;
    d0[1] = 0.0;
    line.step[0] = d0[0];
    line.step[1] = 0.0;
  }
  const bool rising = line.step[0] + k_any * line.step[1] > 0.0;
  // From columns to the line's order: column - first, or last - column.
  const double first = static_cast<double>(rising ? run.col : run.col + run.count - 1), sign = rising ? 1.0 : -1.0;
  for (int i = 0; i < 2; ++i) {
    line.n1[i] = sign * (n1[i] - first * d1[i]);
    line.n0[i] = sign * (n0[i] - first * d0[i]);
    line.d1[i] = d1[i];
    line.d0[i] = d0[i];
  }
  return rising;
}

// The candidates for a pixel of slice k: rays from just above the one that crosses at x - 1 on.
inline int flat_candidates(const FlatLine& line, double at) {
  const double step = std::fabs(line.step[0] + at * line.step[1]);
  return step > 0.05 ? static_cast<int>(2.0 / step + 0.03) + 1 : 64;
}

inline bool flat_line_fits(const ProjectionParams& p, const FlatLine& line) {
  const double middle = static_cast<double>(middle_voxel(p.size[line.axis]));
  const double ends[2] = {-middle, static_cast<double>(p.size[line.axis] - 1) - middle};
  for (double at : ends) {
    const double step = std::fabs(line.step[0] + at * line.step[1]);
    if (!(step * (29.0 - flat_candidates(line, at)) > 15.0)) return false;
  }
  return true;
}

// Whether all rays of a view with this main axis can take the fast way.
inline bool flat_axis_fits(const ProjectionParams& p, const ViewFrame& f, const FlatRuns& runs, int axis) {
  if (runs.count > kMaxRuns) return false;
  for (int r = 0; r < runs.count; ++r) {
    if (runs.run[r].axis != axis) continue;
    FlatLine line;
    line.axis = axis;
    set_map(p, f, runs.run[r], line);
    if (!runs.run[r].fast || !flat_line_fits(p, line)) return false;
  }
  return true;
}

// Returns which main axes (bit 0: x, bit 1: y) the view leaves to the portable way.
inline uint8_t prepare_flat_view(const ProjectionParams& p, int64_t view, const float* proj, float* scratch,
                                 FlatView& out) {
  const ViewFrame f = load_view(p, view);
  const FlatRuns runs = flat_runs(p, f);
  out.count = 0;
  const bool fits[2] = {flat_axis_fits(p, f, runs, 0), flat_axis_fits(p, f, runs, 1)};
  const uint8_t left = static_cast<uint8_t>((fits[0] ? 0 : 1) | (fits[1] ? 0 : 2));
  if (runs.count > kMaxRuns) return left;
  for (int r = 0; r < runs.count; ++r) {
    const FlatRun& run = runs.run[r];
    if (!fits[run.axis]) continue;
    FlatLine& line = out.line[out.count];
    line.axis = run.axis;
    line.count = run.count;
    line.first = INT64_MAX;
    line.last = 0;
    const bool rising = set_map(p, f, run, line);
    const int64_t whole = kLineBefore + run.count + kLineAfter;
    line.base = scratch + kLineBefore;
    line.slope = line.base + whole;
    line.value = line.slope + whole;
    scratch += 3 * whole;
    for (int64_t i = -kLineBefore; i < run.count + kLineAfter; ++i) {
      line.base[i] = i < 0 ? -1e30f : 1e30f;
      line.slope[i] = line.value[i] = 0.0f;
    }
    for (int64_t i = 0; i < run.count; ++i) {
      const int64_t col = rising ? run.col + i : run.col + run.count - 1 - i;
      const Crossings<float> c = make_crossings<float>(p, make_ray(p, f, 0, col), run.axis);
      line.base[i] = c.base[0];
      line.slope[i] = c.slope[0];
      if (c.first >= c.last) continue;
      line.value[i] = c.length * proj[view * p.cols + col];
      line.first = c.first < line.first ? c.first : line.first;
      line.last = c.last > line.last ? c.last : line.last;
    }
    if (line.first < line.last) ++out.count;
  }
  return left;
}

// Adds Candidates rays to each of 16 pixels from x on.
template <int Candidates>
inline __m512 flat_pixels(const float* place, const float* value, int64_t from, __m512i index, __m512 x, __m512 sum) {
  const __m512 one = _mm512_set1_ps(1.0f), zero = _mm512_setzero_ps();
  const __m512 f0 = _mm512_loadu_ps(place + from), f1 = _mm512_loadu_ps(place + from + 16);
  const __m512 g0 = _mm512_loadu_ps(value + from), g1 = _mm512_loadu_ps(value + from + 16);
  MEDSYNTH_UNROLL
  for (int c = 0; c < Candidates; ++c) {
    const __m512 f = _mm512_permutex2var_ps(f0, index, f1), g = _mm512_permutex2var_ps(g0, index, g1);
    const __m512 weight = _mm512_max_ps(zero, _mm512_sub_ps(one, _mm512_abs_ps(_mm512_sub_ps(f, x))));
    sum = _mm512_fmadd_ps(weight, g, sum);
    index = _mm512_add_epi32(index, _mm512_set1_epi32(1));
  }
  return sum;
}

// A line in one slice: where its rays cross, their values, and the map from a pixel at x to the ray that crosses a
// little below x - 1, (n1 x + n0) / (d1 x + d0).
struct FlatSlice {
  const float *place, *value;
  double n1, n0, d1, d0;
  float count;
};

// Pixels x_first to x_last of `row`; that of pixel 0 lies at x = first_x.
template <int Candidates, bool Straight>
inline void add_flat_pixels(const FlatSlice& slice, int64_t x_first, int64_t x_last, double first_x, float* row) {
  const __m512 n1 = _mm512_set1_ps(static_cast<float>(slice.n1)), n0 = _mm512_set1_ps(static_cast<float>(slice.n0));
  const __m512 d1 = _mm512_set1_ps(static_cast<float>(slice.d1)), d0 = _mm512_set1_ps(static_cast<float>(slice.d0));
  const __m512 least = _mm512_set1_ps(-5.0f), most = _mm512_set1_ps(slice.count - 1.0f);
  const __m512 lanes = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512 origin = _mm512_set1_ps(static_cast<float>(first_x));
  __m512 pixel = _mm512_add_ps(_mm512_set1_ps(static_cast<float>(x_first)), lanes);
  for (int64_t x0 = x_first; x0 < x_last; x0 += 16) {
    const __m512 x = _mm512_add_ps(pixel, origin);
    __m512 ray = _mm512_fmadd_ps(n1, x, n0);
    if (!Straight) {
      const __m512 d = _mm512_fmadd_ps(d1, x, d0);
      const __m512 r = _mm512_rcp14_ps(d);
      ray = _mm512_mul_ps(ray, _mm512_mul_ps(r, _mm512_fnmadd_ps(d, r, _mm512_set1_ps(2.0f))));
    }
    ray = _mm512_min_ps(_mm512_max_ps(least, ray), most);
    const __m512i i = _mm512_cvt_roundps_epi32(ray, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    const int64_t from = _mm_cvtsi128_si32(_mm512_castsi512_si128(i)) + 1;
    const __m512i index = _mm512_sub_epi32(i, _mm512_broadcastd_epi32(_mm512_castsi512_si128(i)));
    if (x_last - x0 >= 16) {
      const __m512 sum = _mm512_loadu_ps(row + x0);
      _mm512_storeu_ps(row + x0, flat_pixels<Candidates>(slice.place, slice.value, from, index, x, sum));
    } else {
      const __mmask16 keep = static_cast<__mmask16>((1u << (x_last - x0)) - 1);
      const __m512 sum = _mm512_maskz_loadu_ps(keep, row + x0);
      _mm512_mask_storeu_ps(row + x0, keep, flat_pixels<Candidates>(slice.place, slice.value, from, index, x, sum));
    }
    pixel = _mm512_add_ps(pixel, _mm512_set1_ps(16.0f));
  }
}

template <bool Straight>
inline void add_flat_pixels(int candidates, const FlatSlice& slice, int64_t x_first, int64_t x_last, double first_x,
                            float* row) {
  switch (candidates) {
    case 1: return add_flat_pixels<1, Straight>(slice, x_first, x_last, first_x, row);
    case 2: return add_flat_pixels<2, Straight>(slice, x_first, x_last, first_x, row);
    case 3: return add_flat_pixels<3, Straight>(slice, x_first, x_last, first_x, row);
    default: return add_flat_pixels<4, Straight>(slice, x_first, x_last, first_x, row);
  }
}

// Where the rays of a line cross slice `at`, for those that pixels from x_low to x_high can need.
inline void place_rays(const FlatLine& line, const FlatSlice& slice, float at, double x_low, double x_high,
                       float* place) {
  const double lowest = static_cast<double>(-kLineBefore), highest = static_cast<double>(line.count + kLineAfter);
  const double from = (slice.n1 * x_low + slice.n0) / (slice.d1 * x_low + slice.d0) - 2.0;
  const double to = (slice.n1 * x_high + slice.n0) / (slice.d1 * x_high + slice.d0) + 36.0;
  const int64_t begin = from > lowest ? static_cast<int64_t>(smaller(from, highest)) : -kLineBefore;
  const int64_t end = to < highest ? static_cast<int64_t>(larger(to, lowest)) : line.count + kLineAfter;
  const __m512 at16 = _mm512_set1_ps(at);
  for (int64_t i = begin; i < end; i += 16) {
    const int64_t last = line.count + kLineAfter - 16;
    const int64_t k = i < last ? i : last;
    _mm512_storeu_ps(place + k, _mm512_fmadd_ps(at16, _mm512_loadu_ps(line.slope + k), _mm512_loadu_ps(line.base + k)));
  }
}

// Adds a line to slice k: `row` holds n pixels, `place` is scratch.
inline void add_flat_line(const ProjectionParams& p, const FlatLine& line, int64_t k, float* place, float* row) {
  const int64_t n = p.size[1 - line.axis];
  const double middle = static_cast<double>(middle_voxel(n));
  const double at = static_cast<double>(k - middle_voxel(p.size[line.axis]));
  // The pixels that any ray reaches.
  const double end =
      static_cast<double>(line.base[line.count - 1]) + at * static_cast<double>(line.slope[line.count - 1]);
  const double low = static_cast<double>(line.base[0]) + at * static_cast<double>(line.slope[0]) - 1.01 + middle;
  const double high = end + 1.01 + middle;
  const int64_t x_first = low > 0.0 ? (low < static_cast<double>(n) ? static_cast<int64_t>(low) : n) : 0;
  const int64_t x_last = high < static_cast<double>(n - 1) ? (high < 0.0 ? 0 : static_cast<int64_t>(high) + 1) : n;
  if (x_first >= x_last) return;
  FlatSlice slice;
  slice.value = line.value;
  slice.count = static_cast<float>(line.count);
  // The ray that crosses at x - 1, less a hundredth of a ray: (n1 (x - 1) + n0) / (d1 (x - 1) + d0) - 0.01.
  slice.d1 = line.d1[0];
  slice.d0 = line.d0[0] + at * line.d0[1] - slice.d1;
  const double n1 = line.n1[0] + at * line.n1[1];
  slice.n1 = n1 - 0.01 * slice.d1;
  slice.n0 = line.n0[0] + at * line.n0[1] - n1 - 0.01 * slice.d0;
  const int candidates = flat_candidates(line, at);
  if (p.diverging) {
    place_rays(line, slice, static_cast<float>(at), static_cast<double>(x_first) - middle,
               static_cast<double>(x_last) - middle, place);
    slice.place = place;
    return add_flat_pixels<false>(candidates, slice, x_first, x_last, -middle, row);
  }
  // Equidistant rays move as one: the pixels are moved instead.
  const double shift = at * static_cast<double>(line.slope[0]);
  slice.place = line.base;
  slice.n1 /= slice.d0;
  slice.n0 = slice.n0 / slice.d0 + slice.n1 * shift;
  add_flat_pixels<true>(candidates, slice, x_first, x_last, -middle - shift, row);
}

inline void flat_adjoint(const ProjectionParams& p, const float* proj, float* image) {
  constexpr int64_t kViews = 16;
  const int64_t width = p.size[0], height = p.size[1], floats = flat_view_floats(p);
  const int64_t bytes = (kViews * floats + width * height) * static_cast<int64_t>(sizeof(float));
  float* turned = static_cast<float*>(workspace(0, bytes));  // (x, y): what rays along x leave
  float* lines = turned + width * height;
  for (int64_t i = 0; i < width * height; ++i) turned[i] = image[i] = 0.0f;
  FlatView views[kViews];
  uint8_t* left = static_cast<uint8_t*>(workspace(2, p.views));
  for (int64_t v0 = 0; v0 < p.views; v0 += kViews) {
    const int64_t count = p.views - v0 < kViews ? p.views - v0 : kViews;
    parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t v = begin; v < end; ++v) {
        left[v0 + v] = prepare_flat_view(p, v0 + v, proj, lines + v * floats, views[v]);
      }
    });
    for (int axis = 0; axis < 2; ++axis) {
      float* rows = axis == 0 ? turned : image;
      const int64_t n = p.size[1 - axis];
      parallel_for(0, p.size[axis], 8, [&](int64_t begin, int64_t end) {
        float* place = static_cast<float*>(workspace(
                           1, (p.cols + kLineBefore + kLineAfter + 16) * static_cast<int64_t>(sizeof(float)))) +
                       kLineBefore;
        for (int64_t k = begin; k < end; ++k) {
          for (int64_t v = 0; v < count; ++v) {
            for (int r = 0; r < views[v].count; ++r) {
              const FlatLine& line = views[v].line[r];
              if (line.axis == axis && k >= line.first && k < line.last) {
                add_flat_line(p, line, k, place, rows + k * n);
              }
            }
          }
        }
      });
    }
  }
  parallel_for(0, height, 16, [&](int64_t begin, int64_t end) {
    for (int64_t y = begin; y < end; ++y) {
      for (int64_t x = 0; x < width; ++x) image[y * width + x] += turned[x * height + y];
    }
  });
  for (int axis = 0; axis < 2; ++axis) spread_left(p, axis, proj, image, left);
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
#endif
