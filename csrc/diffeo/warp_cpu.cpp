#include "../common/dispatch.h"
#include "warp_rows.h"
#include "warp_vector.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {
namespace {

int64_t volume_of(const int64_t size[3]) { return size[0] * size[1] * size[2]; }

template <class E, class T>
E* out_at(const WarpParams& p, const Row<T>& row, const Chunk<T>& chunk) {
  return static_cast<E*>(p.out) + row.b * p.channels * volume_of(p.out_size) +
         (row.z * p.out_size[1] + row.y) * p.out_size[2] + chunk.x0;
}

// Linear sampling of voxels [k, end) of a chunk.
template <class T>
void linear_voxels(const WarpParams& p, const Row<T>& row, const Chunk<T>& chunk, int k, int end) {
  const int64_t voxels = volume_of(p.src_size), out_voxels = volume_of(p.out_size);
  const T* src = static_cast<const T*>(p.src) + row.b * p.src_stride;
  T* out = out_at<T>(p, row, chunk);
  const T fill = static_cast<T>(p.fill);
  for (; k < end; ++k) {
    const Cell<T> cell = cell_at(p, chunk.at(k));
    for (int64_t c = 0; c < p.channels; ++c) out[c * out_voxels + k] = linear_value(cell, src + c * voxels, fill);
  }
}

#ifdef __AVX2__
void linear_chunk(const WarpParams& p, const VectorGrid& grid, const Row<float>& row, const Chunk<float>& chunk) {
  CellChunk cells;
  if (!grid.locate(chunk, cells)) return linear_voxels(p, row, chunk, 0, chunk.count);
  const int64_t out_voxels = volume_of(p.out_size);
  const float* src = static_cast<const float*>(p.src) + row.b * p.src_stride;
  float* out = out_at<float>(p, row, chunk);
  const int whole = chunk.count & ~7;
  for (int64_t c = 0; c < p.channels; ++c, src += grid.voxels, out += out_voxels) {
    prefetch_next_row<false>(grid, src, cells.first, chunk.count, row.ahead);
    for (int k = 0; k < whole; k += 8) store(out + k, linear8(grid, src, cells, k));
    if (whole == chunk.count) continue;
    const Eight rest = linear8(grid, src, cells, whole);
    __builtin_memcpy(out + whole, &rest, static_cast<size_t>(chunk.count - whole) * sizeof(float));
  }
  each_bit(cells.general, [&](int k) { linear_voxels(p, row, chunk, k, k + 1); });
}
#endif

template <class T>
void warp_linear(const WarpParams& p) {
#ifdef __AVX2__
  if constexpr (sizeof(T) == 4) {
    if (VectorGrid::fits(p) && p.src_size[2] >= 2) {
      const VectorGrid grid(p);
      return for_each_chunk<T>(p, [&](const Row<T>& row, const Chunk<T>& chunk) { linear_chunk(p, grid, row, chunk); });
    }
  }
#endif
  for_each_chunk<T>(p, [&](const Row<T>& row, const Chunk<T>& chunk) { linear_voxels(p, row, chunk, 0, chunk.count); });
}

// What nearest sampling writes outside, and for a NaN location, as an element of the source's type.
template <class E>
struct Outside {
  E fill, lost;
  bool image;  // a NaN location gives NaN and not a label
};

template <class E, class T>
void nearest_voxels(const WarpParams& p, const Outside<E>& o, const Row<T>& row, const Chunk<T>& chunk, int k,
                    int end) {
  const int64_t voxels = volume_of(p.src_size), out_voxels = volume_of(p.out_size);
  const E* src = static_cast<const E*>(p.src) + row.b * p.src_stride;
  E* out = out_at<E>(p, row, chunk);
  for (; k < end; ++k) {
    const Location<T> at = chunk.at(k);
    const int64_t i = nearest_element(p, at);
    const bool lost = o.image && is_lost(at);
    for (int64_t c = 0; c < p.channels; ++c) {
      out[c * out_voxels + k] = lost ? o.lost : i < 0 ? o.fill : src[c * voxels + i];
    }
  }
}

#ifdef __AVX2__
// out[k] = src[element[k]], one by one: faster here than the gather instructions that a vectorised loop would take.
template <class E>
__attribute__((optimize("no-tree-vectorize"))) void copy_elements(const E* src, const int32_t* element, int count,
                                                                  E* out) {
#pragma GCC unroll 8
  for (int k = 0; k < count; ++k) out[k] = src[element[k]];
}

// Chunks of one thread between locating and copying: their elements have been asked for, and a few hundred voxels later
// they have come.
template <class E>
class NearestQueue {
 public:
  NearestQueue(const WarpParams& p, const VectorGrid& grid, const Outside<E>& outside)
      : p_(p), grid_(grid), outside_(outside) {}

  void add(const Row<float>& row, const Chunk<float>& chunk) {
    if (count_ == kWaiting) copy();
    Entry& e = entries_[(first_ + count_) % kWaiting];
    if (!grid_.locate(chunk, e.nearest)) return nearest_voxels(p_, outside_, row, chunk, 0, chunk.count);
    if (p_.border == Border::reflect) {
      each_bit(e.nearest.outside,
               [&](int k) { e.nearest.element[k] = static_cast<int32_t>(nearest_element(p_, chunk.at(k))); });
    }
    e.src = static_cast<const E*>(p_.src) + row.b * p_.src_stride;
    e.out = out_at<E>(p_, row, chunk);
    e.count = chunk.count;
    for (int64_t c = 0; c < p_.channels; ++c) prefetch(e.src + c * grid_.voxels, e.nearest.element, e.count);
    ++count_;
  }
  void finish() {
    while (count_ > 0) copy();
  }

 private:
  static constexpr int kWaiting = 6;

  struct Entry {
    NearestChunk nearest;
    const E* src;
    E* out;
    int count;
  };

  void copy() {
    const Entry& e = entries_[first_];
    const int64_t out_voxels = volume_of(p_.out_size);
    for (int64_t c = 0; c < p_.channels; ++c) {
      E* out = e.out + c * out_voxels;
      copy_elements(e.src + c * grid_.voxels, e.nearest.element, e.count, out);
      if (p_.border == Border::zeros) each_bit(e.nearest.outside, [&](int k) { out[k] = outside_.fill; });
      if (outside_.image) each_bit(e.nearest.lost, [&](int k) { out[k] = outside_.lost; });
    }
    first_ = (first_ + 1) % kWaiting;
    --count_;
  }

  const WarpParams& p_;
  const VectorGrid& grid_;
  const Outside<E>& outside_;
  Entry entries_[kWaiting];
  int first_ = 0, count_ = 0;
};
#endif

template <class E, class T>
void warp_nearest(const WarpParams& p, const Outside<E>& outside) {
#ifdef __AVX2__
  if constexpr (sizeof(T) == 4) {
    if (VectorGrid::fits(p)) {
      const VectorGrid grid(p);
      return for_each_range<T>(p, [&](const ColumnTable<T>& columns, int64_t begin, int64_t end) {
        NearestQueue<E> queue(p, grid, outside);
        walk_rows(p, columns, begin, end, [&](const Row<T>& row, const Chunk<T>& chunk) { queue.add(row, chunk); });
        queue.finish();
      });
    }
  }
#endif
  for_each_chunk<T>(
      p, [&](const Row<T>& row, const Chunk<T>& chunk) { nearest_voxels(p, outside, row, chunk, 0, chunk.count); });
}

template <class L, class T>
void vote_voxels(const WarpParams& p, const Row<T>& row, const Chunk<T>& chunk, int k, int end) {
  const int64_t voxels = volume_of(p.src_size), out_voxels = volume_of(p.out_size);
  const L* src = static_cast<const L*>(p.src) + row.b * p.src_stride;
  L* out = out_at<L>(p, row, chunk);
  for (; k < end; ++k) {
    const Location<T> at = chunk.at(k);
    for (int64_t c = 0; c < p.channels; ++c) out[c * out_voxels + k] = vote_label<T, L>(p, at, src + c * voxels);
  }
}

#ifdef __AVX2__
// Most cells have one label only and are done with that; the general code does what has no weights.
template <class L>
void vote_chunk(const WarpParams& p, const VectorGrid& grid, const Row<float>& row, const Chunk<float>& chunk) {
  CellChunk cells;
  if (!grid.locate(chunk, cells)) return vote_voxels<L>(p, row, chunk, 0, chunk.count);
  const int64_t out_voxels = volume_of(p.out_size);
  const L* src = static_cast<const L*>(p.src) + row.b * p.src_stride;
  L* out = out_at<L>(p, row, chunk);
  uint64_t general = cells.general;
  for (int64_t c = 0; c < p.channels; ++c, src += grid.voxels, out += out_voxels) {
    prefetch_next_row<false>(grid, src, cells.first, chunk.count, row.ahead);
    for (int k = 0; k < chunk.count; ++k) {
      L label[8];
      float weight[8];
      bool mixed = false;
      for (int i = 0; i < 8; ++i) {
        label[i] = src[cells.first[k] + (i & 4 ? grid.step[0] : 0) + (i & 2 ? grid.step[1] : 0) + (i & 1)];
        mixed |= label[i] != label[0];
      }
      out[k] = label[0];
      if (!mixed) continue;
      for (int i = 0; i < 8; ++i) {
        const auto of_axis = [&](int d, bool upper) { return upper ? cells.weight[d][k] : 1.0f - cells.weight[d][k]; };
        weight[i] = of_axis(0, i & 4) * of_axis(1, i & 2) * of_axis(2, i & 1);
      }
      if (weight[0] != weight[0]) {
        general |= uint64_t{1} << k;
      } else {
        out[k] = most_votes(label, weight, 8);
      }
    }
  }
  each_bit(general, [&](int k) { vote_voxels<L>(p, row, chunk, k, k + 1); });
}
#endif

template <class L, class T>
void warp_vote(const WarpParams& p) {
#ifdef __AVX2__
  if constexpr (sizeof(T) == 4) {
    if (VectorGrid::fits(p) && p.src_size[2] >= 2) {
      const VectorGrid grid(p);
      return for_each_chunk<T>(p,
                               [&](const Row<T>& row, const Chunk<T>& chunk) { vote_chunk<L>(p, grid, row, chunk); });
    }
  }
#endif
  for_each_chunk<T>(p,
                    [&](const Row<T>& row, const Chunk<T>& chunk) { vote_voxels<L>(p, row, chunk, 0, chunk.count); });
}

template <class E, class T>
void warp_images_nearest(const WarpParams& p) {
  warp_nearest<E, T>(p, {static_cast<E>(p.fill), static_cast<E>(NAN), true});
}

template <class T>
void warp_any(const WarpParams& p) {
  if (p.mode == WarpMode::linear) return warp_linear<T>(p);
  if (p.src_type == DType::f32) return warp_images_nearest<float, T>(p);
  if (p.src_type == DType::f64) return warp_images_nearest<double, T>(p);
  dispatch_label(p.src_type, [&](auto tag) {
    using L = decltype(tag);
    if (p.mode == WarpMode::vote) return warp_vote<L, T>(p);
    warp_nearest<L, T>(p, {static_cast<L>(p.label_fill), L(0), false});
  });
}

}  // namespace
}  // namespace MEDSYNTH_ISA_NAMESPACE

MEDSYNTH_DEFINE_CPU(warp, WarpParams, p) {
  dispatch_float(p.real, [&](auto tag) { warp_any<decltype(tag)>(p); });
}

}  // namespace medsynth
