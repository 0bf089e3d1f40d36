#include "../common/dispatch.h"
#include "warp_avx512.h"
#include "warp_rows.h"

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

#if defined(__AVX512F__)
void linear_chunk16(const WarpParams& p, const SourceGrid& grid, const Row<float>& row, const Chunk<float>& chunk) {
  const LocalBounds bounds(p, chunk.base);
  if (!bounds.fits) return linear_voxels(p, row, chunk, 0, chunk.count);
  const int64_t out_voxels = volume_of(p.out_size);
  const float* src = static_cast<const float*>(p.src) + row.b * p.src_stride;
  float* out = out_at<float>(p, row, chunk);
  for (int k = 0; k < chunk.count; k += 16) {
    const int left = chunk.count - k;
    __m512 q[3];
    if (!load_inside(bounds, p.border, chunk, k, q)) {
      linear_voxels(p, row, chunk, k, left < 16 ? chunk.count : k + 16);
      continue;
    }
    const __mmask16 keep = left < 16 ? static_cast<__mmask16>((1u << left) - 1) : 0xFFFF;
    const Cells16 cells = cells16(grid, bounds, q);
    for (int64_t c = 0; c < p.channels; ++c) {
      _mm512_mask_storeu_ps(out + c * out_voxels + k, keep, linear16(grid, src + c * grid.voxels, cells));
    }
  }
}
#endif

template <class T>
void warp_linear(const WarpParams& p) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    if (SourceGrid::fits(p)) {
      const SourceGrid grid(p);
      return for_each_chunk<T>(p,
                               [&](const Row<T>& row, const Chunk<T>& chunk) { linear_chunk16(p, grid, row, chunk); });
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

#if defined(__AVX512F__)
template <class E>
void nearest_chunk16(const WarpParams& p, const SourceGrid& grid, const Outside<E>& o, const Row<float>& row,
                     const Chunk<float>& chunk) {
  const LocalBounds bounds(p, chunk.base);
  if (!bounds.fits) return nearest_voxels(p, o, row, chunk, 0, chunk.count);
  const int64_t out_voxels = volume_of(p.out_size);
  const E* src = static_cast<const E*>(p.src) + row.b * p.src_stride;
  E* out = out_at<E>(p, row, chunk);
  uint64_t fill = 0;
  __builtin_memcpy(&fill, &o.fill, sizeof(E));
  for (int k = 0; k < chunk.count; k += 16) {
    const int left = chunk.count - k;
    __mmask16 lost = 0;
    if (o.image) {
      for (const auto& local : chunk.local) {
        const __m512 q = _mm512_load_ps(local + k);
        lost |= _mm512_cmp_ps_mask(q, q, _CMP_UNORD_Q);
      }
    }
    Nearest16 n;
    if (lost != 0 || !nearest16(grid, bounds, p.border, chunk, k, n)) {
      nearest_voxels(p, o, row, chunk, k, left < 16 ? chunk.count : k + 16);
      continue;
    }
    const __mmask16 keep = left < 16 ? static_cast<__mmask16>((1u << left) - 1) : 0xFFFF;
    for (int64_t c = 0; c < p.channels; ++c) {
      copy16<sizeof(E)>(grid, src + c * grid.voxels, n, fill, keep, out + c * out_voxels + k);
    }
  }
}
#endif

template <class E, class T>
void warp_nearest(const WarpParams& p, const Outside<E>& outside) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    if (SourceGrid::fits(p) && volume_of(p.src_size) >= 4) {
      const SourceGrid grid(p);
      return for_each_chunk<T>(
          p, [&](const Row<T>& row, const Chunk<T>& chunk) { nearest_chunk16(p, grid, outside, row, chunk); });
    }
  }
#endif
  for_each_chunk<T>(
      p, [&](const Row<T>& row, const Chunk<T>& chunk) { nearest_voxels(p, outside, row, chunk, 0, chunk.count); });
}

template <class L, class T>
void warp_vote(const WarpParams& p) {
  const int64_t voxels = volume_of(p.src_size), out_voxels = volume_of(p.out_size);
  for_each_chunk<T>(p, [&](const Row<T>& row, const Chunk<T>& chunk) {
    const L* src = static_cast<const L*>(p.src) + row.b * p.src_stride;
    L* out = out_at<L>(p, row, chunk);
    for (int k = 0; k < chunk.count; ++k) {
      const Location<T> at = chunk.at(k);
      for (int64_t c = 0; c < p.channels; ++c) out[c * out_voxels + k] = vote_label(p, at, src + c * voxels);
    }
  });
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
