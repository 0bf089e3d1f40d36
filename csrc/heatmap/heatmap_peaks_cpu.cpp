#include "../common/dispatch.h"
#include "../common/parallel.h"
#include "../common/workspace.h"
#include "peak_refine_math.h"
#include "peak_scan.h"

namespace medsynth {

namespace {

template <class T>
struct Candidate {
  T value;
  int64_t index;
};

// The order in which candidates are taken.
template <class T>
bool comes_first(const Candidate<T>& a, const Candidate<T>& b) {
  return a.value > b.value || (a.value == b.value && a.index < b.index);
}

template <class T>
void sink(Candidate<T>* heap, int64_t size, int64_t at) {
  const Candidate<T> moved = heap[at];
  for (int64_t child = 2 * at + 1; child < size; child = 2 * at + 1) {
    if (child + 1 < size && comes_first(heap[child + 1], heap[child])) ++child;
    if (!comes_first(heap[child], moved)) break;
    heap[at] = heap[child];
    at = child;
  }
  heap[at] = moved;
}

// Takes candidates from a heap until max_peaks are kept.
template <class T>
void select(const HeatmapPeaksParams& p, int64_t map, Candidate<T>* heap, int64_t size) {
  for (int64_t at = size / 2 - 1; at >= 0; --at) sink(heap, size, at);
  auto* kept = static_cast<int64_t*>(workspace(2, (p.max_peaks + 1) * 8));
  int64_t count = 0;
  while (size > 0 && count < p.max_peaks) {
    const Candidate<T> best = heap[0];
    heap[0] = heap[--size];
    if (size > 0) sink(heap, size, 0);
    bool free = true;
    for (int64_t k = 0; k < count && free && p.radius > 0; ++k) free = !peaks_near(p, best.index, kept[k]);
    if (!free) continue;
    kept[count] = best.index;
    store_peak(p, map, count++, best.index, best.value);
  }
  p.found[map] = count;
  for (int64_t k = count; k < p.max_peaks; ++k) store_peak(p, map, k, -1, static_cast<T>(-INFINITY));
}

// Local maxima of rows [begin, end), counted over the first two axes; returns how many.
template <class T>
int64_t gather(const HeatmapPeaksParams& p, int64_t map, int64_t begin, int64_t end, Candidate<T>* out) {
  using V = typename VecOf<T>::type;
  constexpr int64_t kStep = sizeof(V) / sizeof(T);
  const int64_t height = p.n[1], width = p.n[2], w = p.window;
  const T* h = static_cast<const T*>(p.maps) + map * p.volume();
  const T threshold = static_cast<T>(p.threshold);
  const int64_t x_first = p.border < width ? p.border : width, x_last = width - p.border;
  const int64_t inner_first = w > x_first ? w : x_first, inner_last = width - w < x_last ? width - w : x_last;
  int64_t count = 0;
  const auto test = [&](int64_t z, int64_t y, int64_t x) {
    const int64_t at = (z * height + y) * width + x;
    if (h[at] > threshold && is_local_maximum(p, h, z, y, x)) out[count++] = {h[at], at};
  };
  for (int64_t row = begin; row < end; ++row) {
    const int64_t z = row / height, y = row % height;
    const int64_t r[3] = {z, y, x_first};
    if (x_first >= x_last || !peak_allowed(p, r)) continue;
    const bool wide = inner_last - inner_first >= kStep;
    const int64_t left = wide ? inner_first : x_last;
    for (int64_t x = x_first; x < left; ++x) test(z, y, x);
    if (!wide) continue;
    const int64_t z0 = z < w ? -z : -w, z1 = z + w < p.n[0] ? w : p.n[0] - 1 - z;
    const int64_t y0 = y < w ? -y : -w, y1 = y + w < height ? w : height - 1 - y;
    const T* from = h + row * width;
    const V least = splat<V>(threshold);
    for (int64_t next = inner_first; next < inner_last;) {
      const int64_t x = next + kStep <= inner_last ? next : inner_last - kStep;
      const V value = load<V>(from + x);
      auto is_peak = value > least;
      if (any_lane(is_peak)) {
        // Neighbours along the row first: they turn down most.
        for (int64_t dx = 1; dx <= w; ++dx) {
          const V before = load<V>(from + x - dx);
          is_peak &= ~(p.all_ties ? before > value : before >= value) & ~(load<V>(from + x + dx) > value);
        }
        for (int64_t dz = z0; dz <= z1 && any_lane(is_peak); ++dz) {
          for (int64_t dy = y0; dy <= y1; ++dy) {
            if (dz == 0 && dy == 0) continue;
            const bool strict = (dz < 0 || (dz == 0 && dy < 0)) && !p.all_ties;
            const T* other = from + (dz * height + dy) * width + x;
            for (int64_t dx = -w; dx <= w; ++dx) {
              const V theirs = load<V>(other + dx);
              is_peak &= ~(strict ? theirs >= value : theirs > value);
            }
            if (!any_lane(is_peak)) break;
          }
        }
        if (any_lane(is_peak)) {
          for (int64_t l = next - x; l < kStep; ++l) {
            if (is_peak[l]) out[count++] = {from[x + l], row * width + x + l};
          }
        }
      }
      next = x + kStep;
    }
    for (int64_t x = inner_last; x < x_last; ++x) test(z, y, x);
  }
  return count;
}

// Most candidates that a row can hold.
int64_t row_capacity(const HeatmapPeaksParams& p) { return p.all_ties ? p.n[2] : (p.n[2] + 1) / 2; }

// Few maps: every one is gathered in slabs by all threads.
template <class T>
void nms_slabs(const HeatmapPeaksParams& p) {
  const int64_t rows = p.n[0] * p.n[1], slab = kPeakSegment / p.n[2] + 1, slabs = (rows + slab - 1) / slab;
  const int64_t room = slab * row_capacity(p);
  auto* counts = static_cast<int64_t*>(workspace(0, slabs * 8));
  auto* all = static_cast<Candidate<T>*>(workspace(3, slabs * room * static_cast<int64_t>(sizeof(Candidate<T>))));
  for (int64_t map = 0; map < p.count; ++map) {
    parallel_for(0, slabs, 1, [&](int64_t begin, int64_t end) {
      for (int64_t s = begin; s < end; ++s) {
        const int64_t last = (s + 1) * slab;
        counts[s] = gather(p, map, s * slab, last < rows ? last : rows, all + s * room);
      }
    });
    int64_t size = counts[0];
    for (int64_t s = 1; s < slabs; ++s) {
      for (int64_t k = 0; k < counts[s]; ++k) all[size++] = all[s * room + k];
    }
    select(p, map, all, size);
  }
}

}  // namespace

MEDSYNTH_DEFINE_CPU(heatmap_peak, HeatmapPeaksParams, p) {
  const int64_t volume = p.volume(), segments = (volume + kPeakSegment - 1) / kPeakSegment;
  dispatch_float(p.dtype, [&](auto tag) {
    using T = decltype(tag);
    auto* best = static_cast<int64_t*>(workspace(0, p.count * segments * 8));
    const T* maps = static_cast<const T*>(p.maps);
    parallel_for(0, p.count * segments, kPeakSegment / (volume < kPeakSegment ? volume : kPeakSegment),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t item = begin; item < end; ++item) {
                     const int64_t first = item % segments * kPeakSegment, last = first + kPeakSegment;
                     const T* map = maps + item / segments * volume;
                     best[item] = first_largest(map, first, last < volume ? last : volume);
                   }
                 });
    parallel_for(0, p.count, 64, [&](int64_t begin, int64_t end) {
      for (int64_t map = begin; map < end; ++map) {
        const T* h = maps + map * volume;
        int64_t index = -1;
        for (int64_t s = 0; s < segments; ++s) {
          const int64_t other = best[map * segments + s];
          if (other >= 0 && (index < 0 || h[other] > h[index])) index = other;
        }
        p.index[map] = index;
        store_peak(p, map, 0, index, index < 0 ? static_cast<T>(NAN) : h[index]);
      }
    });
  });
}

MEDSYNTH_DEFINE_CPU(heatmap_peaks_nms, HeatmapPeaksParams, p) {
  const int64_t rows = p.n[0] * p.n[1];
  dispatch_float(p.dtype, [&](auto tag) {
    using T = decltype(tag);
    if (p.count < thread_count() && p.volume() > 2 * kPeakSegment) return nms_slabs<T>(p);
    parallel_for(0, p.count, kPeakSegment / p.volume() + 1, [&](int64_t begin, int64_t end) {
      auto* candidates =
          static_cast<Candidate<T>*>(workspace(3, rows * row_capacity(p) * static_cast<int64_t>(sizeof(Candidate<T>))));
      for (int64_t map = begin; map < end; ++map) select(p, map, candidates, gather(p, map, 0, rows, candidates));
    });
  });
}

}  // namespace medsynth
