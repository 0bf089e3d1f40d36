// Row by row: a row of a Gaussian is a number times the factors of the last axis, which are made once a point.
#include "../common/dispatch.h"
#include "../common/parallel.h"
#include "../common/workspace.h"
#include "render_heatmaps_math.h"

namespace medsynth {

namespace {

constexpr int64_t kSlabVoxels = 1 << 16;

template <class T>
void make_factors(const RenderPoint<T>& q, int d, T* factors) {
  int64_t r = q.first[d];
  if constexpr (sizeof(T) == 4) {
    VecF lane;
    for (int l = 0; l < kLanes; ++l) lane[l] = static_cast<float>(l);
    for (; r + kLanes <= q.last[d]; r += kLanes, factors += kLanes) {
      const VecF distance = (lane + static_cast<float>(r)) - q.at[d];
      store(factors, render_factor<VecF>(distance / q.sigma[d]));
    }
  }
  for (; r < q.last[d]; ++r) *factors++ = q.factor(d, r);
}

template <class T>
void combine_row(T* __restrict row, const T* __restrict factors, T scale, int64_t count, bool sum) {
  if (sum) {
    for (int64_t x = 0; x < count; ++x) row[x] += scale * factors[x];
  } else {
    for (int64_t x = 0; x < count; ++x) {
      const T v = scale * factors[x];
      row[x] = v > row[x] ? v : row[x];
    }
  }
}

// Rows [begin, end) of one map, counted over the first two axes.
template <class T>
void render_rows(const RenderHeatmapsParams& p, int64_t map, int64_t begin, int64_t end, T* factors) {
  const int64_t height = p.n[1], width = p.n[2];
  T* out = static_cast<T*>(p.out) + map * p.volume();
  __builtin_memset(out + begin * width, 0, static_cast<size_t>((end - begin) * width) * sizeof(T));
  int64_t first_slot, last_slot;
  render_slots(p, map, first_slot, last_slot);
  for (int64_t slot = first_slot; slot < last_slot; ++slot) {
    const RenderPoint<T> q = render_point<T>(p, render_index(p, slot));
    if (q.nowhere()) continue;
    T* along_z = factors + width;
    T* along_y = along_z + p.n[0];
    make_factors(q, 2, factors);
    make_factors(q, 1, along_y);
    make_factors(q, 0, along_z);
    for (int64_t z = q.first[0]; z < q.last[0]; ++z) {
      const int64_t low = begin - z * height, high = end - z * height;
      const int64_t y0 = q.first[1] > low ? q.first[1] : low, y1 = q.last[1] < high ? q.last[1] : high;
      for (int64_t y = y0; y < y1; ++y) {
        const T scale = q.amplitude * (along_z[z - q.first[0]] * along_y[y - q.first[1]]);
        combine_row(out + (z * height + y) * width + q.first[2], factors, scale, q.last[2] - q.first[2], p.sum);
      }
    }
  }
}

template <class T>
void render_gradients(const RenderHeatmapsParams& p, int64_t map) {
  int64_t begin, end;
  render_slots(p, map, begin, end);
  if (begin >= end) return;
  auto* points =
      static_cast<RenderPoint<T>*>(workspace(1, (end - begin) * static_cast<int64_t>(sizeof(RenderPoint<T>))));
  for (int64_t slot = begin; slot < end; ++slot) points[slot - begin] = render_point<T>(p, render_index(p, slot));
  const bool alone = p.sum || end - begin == 1;
  const T* grad = static_cast<const T*>(p.grad) + map * p.volume();
  for (int64_t slot = begin; slot < end; ++slot) {
    const RenderPoint<T>& q = points[slot - begin];
    if (q.nowhere()) continue;
    RenderSums sums;
    int64_t r[3];
    for (r[0] = q.first[0]; r[0] < q.last[0]; ++r[0]) {
      for (r[1] = q.first[1]; r[1] < q.last[1]; ++r[1]) {
        const T* row = grad + (r[0] * p.n[1] + r[1]) * p.n[2];
        for (r[2] = q.first[2]; r[2] < q.last[2]; ++r[2]) {
          const bool counts = alone || render_wins(slot, begin, end, q.value(r), r,
                                                   [&](int64_t other) { return points[other - begin]; });
          if (counts) sums.add(q, r, row[r[2]]);
        }
      }
    }
    sums.store(p, q, render_index(p, slot));
  }
}

}  // namespace

MEDSYNTH_DEFINE_CPU(render_heatmaps, RenderHeatmapsParams, p) {
  const int64_t rows = p.n[0] * p.n[1], width = p.n[2];
  const int64_t slab = kSlabVoxels / width + 1, slabs = (rows + slab - 1) / slab;
  dispatch_float(p.dtype, [&](auto tag) {
    using T = decltype(tag);
    parallel_for(0, p.maps * slabs, kSlabVoxels / (slab < rows ? slab * width : rows * width) + 1,
                 [&](int64_t begin, int64_t end) {
                   T* factors =
                       static_cast<T*>(workspace(1, (width + p.n[0] + p.n[1]) * static_cast<int64_t>(sizeof(T))));
                   for (int64_t item = begin; item < end; ++item) {
                     const int64_t first = item % slabs * slab, last = first + slab;
                     render_rows(p, item / slabs, first, last < rows ? last : rows, factors);
                   }
                 });
  });
}

MEDSYNTH_DEFINE_CPU(render_heatmaps_backward, RenderHeatmapsParams, p) {
  dispatch_float(p.dtype, [&](auto tag) {
    using T = decltype(tag);
    parallel_for(0, p.maps, 8, [&](int64_t begin, int64_t end) {
      for (int64_t map = begin; map < end; ++map) render_gradients<T>(p, map);
    });
  });
}

}  // namespace medsynth
