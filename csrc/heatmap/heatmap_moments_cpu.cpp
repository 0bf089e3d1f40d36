// Every piece is read twice, for its largest voxel and for the sums about it; the second time it is in the cache.
#include "../common/dispatch.h"
#include "../common/parallel.h"
#include "../common/workspace.h"
#include "heatmap_moments_math.h"
#include "peak_scan.h"

namespace medsynth {

namespace {

constexpr int64_t kRun = 1024;  // voxels whose sums are kept in the precision of the map

// Sums of w x^k, k = 0..3, over a run of a row; x counts from `from`.
template <class T>
bool sum_run(const T* h, int64_t count, T from, T most, T beta, T threshold, bool softmax, double (&sums)[4]) {
  double s[4] = {0, 0, 0, 0};
  bool number = true;
  for (int64_t i = 0; i < count; ++i) {
    number = number && h[i] == h[i];
    const double w = static_cast<double>(softmax ? exp_of((h[i] - most) * beta) : linear_weight(h[i], threshold));
    const double x = static_cast<double>(from) + static_cast<double>(i);
    s[0] += w;
    s[1] += w * x;
    s[2] += w * x * x;
    s[3] += w * x * x * x;
  }
  for (int k = 0; k < 4; ++k) sums[k] += s[k];
  return number;
}

typedef float HalfF __attribute__((vector_size(kVectorBytes / 2)));

// The lanes of a vector in float64, those of the upper half added to those of the lower.
inline __attribute__((always_inline)) VecD folded(VecF v) {
  HalfF half[2];
  __builtin_memcpy(half, &v, sizeof v);
  return __builtin_convertvector(half[0], VecD) + __builtin_convertvector(half[1], VecD);
}

inline double add_lanes(VecD v) {
  double sum = 0;
  for (int l = 0; l < kLanes / 2; ++l) sum += v[l];
  return sum;
}

inline __attribute__((always_inline)) VecF count_lanes() {
  VecF lane;
  for (int l = 0; l < kLanes; ++l) lane[l] = static_cast<float>(l);
  return lane;
}

// Adds the part of a box that lies in slice z, without third moments: sums along x are kept in float over a run, all
// others in float64, and lanes are added up once a slice. False when there is a NaN.
bool add_slice(const HeatmapMomentsParams& p, const float* map, int64_t z, const int64_t (&first)[3],
               const int64_t (&last)[3], const int64_t (&r)[3], MomentSums& s) {
  const bool softmax = p.weights == MomentWeights::softmax;
  const VecF lane = count_lanes(), zero = {};
  const VecF top = splat<VecF>(static_cast<float>(s.most)), hot = splat<VecF>(static_cast<float>(p.beta));
  const VecF least = splat<VecF>(static_cast<float>(p.threshold));
  VecF bad = {};
  VecD m0 = {}, my = {}, myy = {}, mx = {}, mxy = {}, mxx = {};
  for (int64_t y = first[1]; y < last[1]; ++y) {
    const float* row = map + (z * p.n[1] + y) * p.n[2];
    const double dy = static_cast<double>(y - r[1]);
    for (int64_t from = first[2]; from < last[2]; from += kRun) {
      const int64_t to = from + kRun < last[2] ? from + kRun : last[2];
      VecF x = lane + static_cast<float>(from - r[2]), s0 = {}, s1 = {}, s2 = {};
      for (int64_t i = from; i < to; i += kLanes, x += static_cast<float>(kLanes)) {
        const int64_t left = to - i;
        VecF v = top;
        if (left >= kLanes) {
          v = load<VecF>(row + i);
        } else {
          __builtin_memcpy(&v, row + i, static_cast<size_t>(left) * sizeof(float));
        }
        VecF w;
        if (softmax) {
          const VecF distance = (v - top) * hot;
          bad += distance;  // NaN for a NaN, at worst -inf else
          w = exp_of<VecF>(distance);
        } else {
          w = (v < least) | (v <= zero) ? zero : v;
          bad += w;
        }
        if (left < kLanes) w = lane < static_cast<float>(left) ? w : zero;
        const VecF wx = w * x;
        s0 += w;
        s1 += wx;
        s2 = fma_of(wx, x, s2);
      }
      const VecD d0 = folded(s0), d1 = folded(s1), d0y = d0 * dy;
      m0 += d0;
      my += d0y;
      myy += d0y * dy;
      mx += d1;
      mxy += d1 * dy;
      mxx += folded(s2);
    }
  }
  const double dz = static_cast<double>(z - r[0]), n = add_lanes(m0), ny = add_lanes(my), nx = add_lanes(mx);
  s.s0 += n;
  const double firsts[3] = {dz * n, ny, nx};
  for (int a = 0; a < 3; ++a) s.s1[a] += firsts[a];
  const double seconds[6] = {dz * dz * n, dz * ny, dz * nx, add_lanes(myy), add_lanes(mxy), add_lanes(mxx)};
  for (int a = 0; a < 6; ++a) s.s2[a] += seconds[a];
  return !any_lane(bad != bad);
}

// The sums of a box of one map about the voxel `reference`, which is its largest.
template <class T>
MomentSums sum_box(const HeatmapMomentsParams& p, const T* map, int64_t reference, const int64_t (&first)[3],
                   const int64_t (&last)[3]) {
  const bool third = p.third != nullptr, softmax = p.weights == MomentWeights::softmax;
  MomentSums s;
  clear(s);
  if (reference < 0) {
    s.most = static_cast<double>(NAN);
    return s;
  }
  int64_t r[3];
  voxel_of(p, reference, r);
  s.reference = reference;
  s.most = static_cast<double>(map[reference]);
  bool number = true;
  const bool nothing = softmax && !(map[reference] > static_cast<T>(-INFINITY));
  for (int64_t z = first[0]; z < last[0]; ++z) {
    if constexpr (sizeof(T) == 4) {
      if (!third && !nothing) {
        number &= add_slice(p, map, z, first, last, r, s);
        continue;
      }
    }
    for (int64_t y = first[1]; y < last[1]; ++y) {
      const T* row = map + (z * p.n[1] + y) * p.n[2];
      if (nothing) {  // all -inf, or NaN
        for (int64_t x = first[2]; x < last[2]; ++x) number &= row[x] == row[x];
        continue;
      }
      double sums[4] = {0, 0, 0, 0};
      for (int64_t x = first[2]; x < last[2]; x += kRun) {
        const int64_t count = x + kRun < last[2] ? kRun : last[2] - x;
        const T from = static_cast<T>(x - r[2]);
        const T most = map[reference], beta = static_cast<T>(p.beta), threshold = static_cast<T>(p.threshold);
        number &= sum_run(row + x, count, from, most, beta, threshold, softmax, sums);
      }
      add_row(s, static_cast<double>(z - r[0]), static_cast<double>(y - r[1]), sums, third);
    }
  }
  if (!number) s.most = static_cast<double>(NAN);
  return s;
}

// One piece of a map: rows [begin, end) of one slice.
template <class T>
MomentSums sum_piece(const HeatmapMomentsParams& p, const T* map, int64_t z, int64_t begin, int64_t end) {
  const int64_t from = (z * p.n[1] + begin) * p.n[2];
  const int64_t first[3] = {z, begin, 0}, last[3] = {z + 1, end, p.n[2]};
  return sum_box(p, map, first_largest(map, from, from + (end - begin) * p.n[2]), first, last);
}

template <class T>
void windowed(const HeatmapMomentsParams& p) {
  parallel_for(0, p.count, 8, [&](int64_t begin, int64_t end) {
    for (int64_t map = begin; map < end; ++map) {
      const T* h = static_cast<const T*>(p.maps) + map * p.volume();
      const int64_t peak = first_largest(h, 0, p.volume());
      int64_t r[3] = {0, 0, 0}, first[3], last[3];
      if (peak >= 0) voxel_of(p, peak, r);
      moment_box(p, r, first, last);
      const MomentSums s = sum_box(p, h, peak, first, last);
      finish_moments(p, map, 1, [&](int64_t) -> const MomentSums& { return s; });
    }
  });
}

template <class T>
void gradient_row(const HeatmapMomentsParams& p, const RowPolynomial<T>& q, const T* h, T* out, T from, T most,
                  int64_t count) {
  const bool softmax = p.weights == MomentWeights::softmax;
  const T beta = static_cast<T>(p.beta), threshold = static_cast<T>(p.threshold);
  int64_t i = 0;
  if constexpr (sizeof(T) == 4) {
    VecF x = count_lanes() + from;
    const VecF a = splat<VecF>(q.a), b = splat<VecF>(q.b), c = splat<VecF>(q.c), zero = {};
    for (; i + kLanes <= count; i += kLanes) {
      const VecF v = load<VecF>(h + i), poly = fma_of(fma_of(c, x, b), x, a);
      if (softmax) {
        store(out + i, exp_of<VecF>((v - most) * beta) * poly);
      } else {
        store(out + i, (v < threshold) | (v <= zero) ? zero : poly);
      }
      x += static_cast<float>(kLanes);
    }
  }
  for (; i < count; ++i) {
    out[i] = moment_gradient(q, from + static_cast<T>(i), h[i], softmax, most, beta, threshold);
  }
}

}  // namespace

MEDSYNTH_DEFINE_CPU(heatmap_moments, HeatmapMomentsParams, p) {
  dispatch_float(p.dtype, [&](auto tag) {
    using T = decltype(tag);
    if (p.window > 0) return windowed<T>(p);
    const int64_t wanted = kMomentPieces / p.n[2] + 1, rows = wanted < p.n[1] ? wanted : p.n[1];
    const int64_t strips = (p.n[1] + rows - 1) / rows, pieces = p.n[0] * strips;
    const auto part = [&](int64_t item) {
      const int64_t z = item % pieces / strips, y = item % strips * rows;
      const T* map = static_cast<const T*>(p.maps) + item / pieces * p.volume();
      return sum_piece(p, map, z, y, y + rows < p.n[1] ? y + rows : p.n[1]);
    };
    const int64_t grain = kMomentPieces / (rows * p.n[2]) + 1;
    if (pieces == 1) {
      parallel_for(0, p.count, grain, [&](int64_t begin, int64_t end) {
        for (int64_t map = begin; map < end; ++map) {
          const MomentSums s = part(map);
          finish_moments(p, map, 1, [&](int64_t) -> const MomentSums& { return s; });
        }
      });
      return;
    }
    auto* sums = static_cast<MomentSums*>(workspace(0, p.count * pieces * static_cast<int64_t>(sizeof(MomentSums))));
    parallel_for(0, p.count * pieces, grain, [&](int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; ++item) sums[item] = part(item);
    });
    for (int64_t map = 0; map < p.count; ++map) {
      finish_moments(p, map, pieces, [&](int64_t i) -> const MomentSums& { return sums[map * pieces + i]; });
    }
  });
}

MEDSYNTH_DEFINE_CPU(heatmap_moments_backward, HeatmapMomentsParams, p) {
  const int64_t rows = p.n[0] * p.n[1], width = p.n[2];
  dispatch_float(p.dtype, [&](auto tag) {
    using T = decltype(tag);
    parallel_for(0, p.count * rows, kMomentPieces / 2 / width + 1, [&](int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; ++item) {
        const int64_t map = item / rows, z = item % rows / p.n[1], y = item % p.n[1];
        const double* state = p.state + map * kMomentState;
        const T* h = static_cast<const T*>(p.maps) + item * width;
        T* out = static_cast<T*>(p.grad) + item * width;
        const bool known = state_known(p, state);
        int64_t first = 0, last = width;
        if (p.window > 0 && known) {
          int64_t r[3], low[3], high[3];
          voxel_of(p, static_cast<int64_t>(state[2]), r);
          moment_box(p, r, low, high);
          const bool outside = z < low[0] || z >= high[0] || y < low[1] || y >= high[1];
          first = outside ? width : low[2];
          last = outside ? width : high[2];
        }
        for (int64_t x = 0; x < first; ++x) out[x] = 0;
        for (int64_t x = last; x < width; ++x) out[x] = 0;
        if (first >= last) continue;
        if (!known) {
          for (int64_t x = first; x < last; ++x) out[x] = static_cast<T>(NAN);
          continue;
        }
        const double centre = p.mean[map * p.axes + p.axes - 1];
        const T from = static_cast<T>(static_cast<double>(first) - centre);
        gradient_row(p, row_polynomial<T>(p, map, z, y), h + first, out + first, from, static_cast<T>(state[0]),
                     last - first);
      }
    });
  });
}

}  // namespace medsynth
