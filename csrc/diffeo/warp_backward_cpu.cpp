#include "../common/dispatch.h"
#include "warp_avx512.h"
#include "warp_rows.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {
namespace {

int64_t volume_of(const int64_t size[3]) { return size[0] * size[1] * size[2]; }

template <class T>
const T* grad_at(const WarpBackwardParams& p, const Row<T>& row, const Chunk<T>& chunk) {
  const WarpParams& f = p.forward;
  return static_cast<const T*>(p.grad) + row.b * f.channels * volume_of(f.out_size) +
         (row.z * f.out_size[1] + row.y) * f.out_size[2] + chunk.x0;
}

// dL/dq of one voxel.
template <class T>
void location_gradient(const WarpBackwardParams& p, const Row<T>& row, const Chunk<T>& chunk, int k, T gq[3]) {
  const WarpParams& f = p.forward;
  const int64_t voxels = volume_of(f.src_size), out_voxels = volume_of(f.out_size);
  const T* src = static_cast<const T*>(f.src) + row.b * f.src_stride;
  const T* grad = grad_at(p, row, chunk) + k;
  const Cell<T> cell = cell_at(f, chunk.at(k));
  gq[0] = gq[1] = gq[2] = T(0);
  for (int64_t c = 0; c < f.channels; ++c) {
    add_location_gradient(cell, src + c * voxels, static_cast<T>(f.fill), grad[c * out_voxels], gq);
  }
}

#if defined(__AVX512F__)
// The same for voxels k to k + 15; false when the border rules need the general code.
bool location_gradient16(const WarpBackwardParams& p, const SourceGrid& grid, const Row<float>& row,
                         const Chunk<float>& chunk, int k, float gq[3][kChunk]) {
  const WarpParams& f = p.forward;
  const LocalBounds bounds(f, chunk.base);
  __m512 q[3];
  if (k + 16 > chunk.count || !bounds.fits || !load_inside(bounds, f.border, chunk, k, q)) return false;
  const int64_t out_voxels = volume_of(f.out_size);
  const float* src = static_cast<const float*>(f.src) + row.b * f.src_stride;
  const float* grad = grad_at(p, row, chunk) + k;
  const Cells16 cells = cells16(grid, bounds, q);
  __m512 sums[3] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
  for (int64_t c = 0; c < f.channels; ++c) {
    add_gradient16(grid, src + c * grid.voxels, cells, _mm512_loadu_ps(grad + c * out_voxels), sums);
  }
  for (int d = 0; d < 3; ++d) {
    const __m512 at = _mm512_load_ps(chunk.local[d] + k);  // beyond the clamped border nothing changes
    const __mmask16 beyond =
        _mm512_cmp_ps_mask(at, bounds.low[d], _CMP_LT_OQ) | _mm512_cmp_ps_mask(at, bounds.high[d], _CMP_GT_OQ);
    _mm512_store_ps(gq[d] + k, _mm512_mask_mov_ps(sums[d], beyond, _mm512_setzero_ps()));
  }
  return true;
}
#endif

// dL/dq of a whole chunk.
template <class T>
void chunk_gradient(const WarpBackwardParams& p, const Row<T>& row, const Chunk<T>& chunk, T gq[3][kChunk]) {
#if defined(__AVX512F__)
  const bool vector = sizeof(T) == 4 && SourceGrid::fits(p.forward);
  const SourceGrid grid(p.forward);
#endif
  for (int k = 0; k < chunk.count; k += 16) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4) {
      if (vector && location_gradient16(p, grid, row, chunk, k, gq)) continue;
    }
#endif
    for (int i = k; i < k + 16 && i < chunk.count; ++i) {
      T one[3];
      location_gradient(p, row, chunk, i, one);
      for (int d = 0; d < 3; ++d) gq[d][i] = one[d];
    }
  }
}

// The gradients to the moved location w and, summed over each plane, to the matrix.
template <class T>
void backward_locations(const WarpBackwardParams& p, const ColumnTable<T>& columns) {
  const WarpParams& f = p.forward;
  const int64_t planes = f.out_size[0], lines = f.out_size[1], out_voxels = volume_of(f.out_size);
  const int first = 3 - f.dims;
  parallel_for(0, f.batch * planes, 1, [&](int64_t begin, int64_t end) {
    for (int64_t plane = begin; plane < end; ++plane) {
      double sums[12] = {};
      walk_rows(f, columns, plane * lines, (plane + 1) * lines, [&](const Row<T>& row, const Chunk<T>& chunk) {
        const int64_t at = (row.z * lines + row.y) * f.out_size[2] + chunk.x0;
        T* moved = p.grad_moved ? static_cast<T*>(p.grad_moved) + row.b * f.dims * out_voxels + at : nullptr;
        alignas(64) T gq[3][kChunk];
        chunk_gradient(p, row, chunk, gq);
        for (int c = first; moved != nullptr && c < 3; ++c) {
          const T m0 = static_cast<T>(row.affine.m[0][c]), m1 = static_cast<T>(row.affine.m[1][c]);
          const T m2 = static_cast<T>(row.affine.m[2][c]);
          T* to = moved + (c - first) * out_voxels;
          if (f.matrix == nullptr) {
            __builtin_memcpy(to, gq[c], static_cast<size_t>(chunk.count) * sizeof(T));
            continue;
          }
#pragma omp simd
          for (int k = 0; k < chunk.count; ++k) to[k] = std::fma(m0, gq[0][k], std::fma(m1, gq[1][k], m2 * gq[2][k]));
        }
        for (int k = 0; p.grad_matrix != nullptr && k < chunk.count; ++k) {
          double w[4] = {double(row.z + f.origin[0]), double(row.y + f.origin[1]), double(chunk.x0 + k + f.origin[2]),
                         1.0};
          for (int c = first; c < 3; ++c) w[c] += chunk.disp[c] ? double(chunk.disp[c][k]) : 0.0;
          for (int d = 0; d < 3; ++d) {
            for (int c = 0; c < 4; ++c) sums[4 * d + c] += double(gq[d][k]) * w[c];
          }
        }
      });
      if (p.grad_matrix != nullptr) __builtin_memcpy(p.partial + 12 * plane, sums, sizeof sums);
    }
  });
}

void sum_matrix(const WarpBackwardParams& p) {
  const WarpParams& f = p.forward;
  const int first = 3 - f.dims;
  for (int64_t b = 0; b < f.batch; ++b) {
    double sums[12] = {};
    for (int64_t z = 0; z < f.out_size[0]; ++z) {
      for (int i = 0; i < 12; ++i) sums[i] += p.partial[12 * (b * f.out_size[0] + z) + i];
    }
    for (int d = 0; d < f.dims; ++d) {
      for (int c = 0; c <= f.dims; ++c) {
        p.grad_matrix[(b * f.dims + d) * (f.dims + 1) + c] = sums[4 * (first + d) + first + c];
      }
    }
  }
}

struct Range {
  int64_t low, high;  // inclusive
};

// Which slabs of the source a chunk touches, along the source's first axis that is longer than one voxel.
template <class T>
Range touched(const WarpParams& p, const Chunk<T>& chunk, int axis) {
  Range r{p.src_size[axis], -1};
  for (int k = 0; k < chunk.count; ++k) {
    const AxisSample<T> s = axis_linear(p.border, chunk.base[axis], chunk.local[axis][k], p.src_size[axis]);
    r.low = s.index < r.low ? s.index : r.low;
    r.high = s.index + s.next > r.high ? s.index + s.next : r.high;
  }
  return r;
}

// Adds g to the eight corners of a cell by their weights.
template <class T>
void add_corners(const Cell<T>& c, T g, T* to) {
  T* low = to + c.first;
  T* high = low + c.step[0];
  const T g0 = g * c.axis[0].w0, g1 = g * c.axis[0].w1;
  const T g00 = g0 * c.axis[1].w0, g01 = g0 * c.axis[1].w1, g10 = g1 * c.axis[1].w0, g11 = g1 * c.axis[1].w1;
  const T w0 = c.axis[2].w0, w1 = c.axis[2].w1;
  low[0] += g00 * w0;
  low[c.step[2]] += g00 * w1;
  low[c.step[1]] += g01 * w0;
  low[c.step[1] + c.step[2]] += g01 * w1;
  high[0] += g10 * w0;
  high[c.step[2]] += g10 * w1;
  high[c.step[1]] += g11 * w0;
  high[c.step[1] + c.step[2]] += g11 * w1;
}

// Adds the voxels of a chunk to the part [low, high] of the source's gradient along `axis`. Every voxel of the source
// is summed in the order of the output's voxels, whoever owns it, so the split does not change the result.
template <class T>
void scatter_chunk(const WarpBackwardParams& p, const Row<T>& row, const Chunk<T>& chunk, int axis, Range own) {
  const WarpParams& f = p.forward;
  const int64_t voxels = volume_of(f.src_size), out_voxels = volume_of(f.out_size);
  T* to = static_cast<T*>(p.grad_src) + row.b * f.channels * voxels;
  const T* grad = grad_at(p, row, chunk);
  for (int k = 0; k < chunk.count; ++k) {
    const Cell<T> cell = cell_at(f, chunk.at(k));
    const int64_t index = cell.axis[axis].index, next = index + cell.axis[axis].next;
    const bool mine[2] = {index >= own.low && index <= own.high, next >= own.low && next <= own.high};
    if (!mine[0] && !mine[1]) continue;
    if (mine[0] && mine[1] && f.channels == 1) {
      add_corners(cell, grad[k], to);
      continue;
    }
    for (int corner = 0; corner < 8; ++corner) {
      const int upper[3] = {corner >> 2, (corner >> 1) & 1, corner & 1};
      if (!mine[upper[axis]]) continue;
      int64_t at = cell.first;
      for (int d = 0; d < 3; ++d) at += upper[d] ? cell.step[d] : 0;
      for (int64_t c = 0; c < f.channels; ++c) {  // multiplied in the order of add_corners: the split must not show
        T g = grad[c * out_voxels + k];
        for (int d = 0; d < 3; ++d) g *= upper[d] ? cell.axis[d].w1 : cell.axis[d].w0;
        to[c * voxels + at] += g;
      }
    }
  }
}

template <class T>
void clear_slab(const WarpBackwardParams& p, int64_t b, int axis, Range own) {
  const WarpParams& f = p.forward;
  int64_t inner = 1;
  for (int d = axis + 1; d < 3; ++d) inner *= f.src_size[d];
  const int64_t voxels = volume_of(f.src_size);
  for (int64_t c = 0; c < f.channels; ++c) {
    T* to = static_cast<T*>(p.grad_src) + (b * f.channels + c) * voxels + own.low * inner;
    __builtin_memset(to, 0, static_cast<size_t>((own.high - own.low + 1) * inner) * sizeof(T));
  }
}

template <class T>
void backward_source(const WarpBackwardParams& p, const ColumnTable<T>& columns) {
  const WarpParams& f = p.forward;
  const int axis = f.src_size[0] > 1 ? 0 : f.src_size[1] > 1 ? 1 : 2;
  const int64_t rows = f.out_size[0] * f.out_size[1], threads = thread_count(), length = f.src_size[axis];
  const int64_t wanted = (threads + f.batch - 1) / f.batch, slabs = wanted < length ? wanted : length;
  parallel_for(0, f.batch * slabs, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t b = i / slabs, slab = i % slabs;
      const Range own{length * slab / slabs, length * (slab + 1) / slabs - 1};
      clear_slab<T>(p, b, axis, own);
      walk_rows(f, columns, b * rows, (b + 1) * rows, [&](const Row<T>& row, const Chunk<T>& chunk) {
        if (slabs > 1) {
          const Range r = touched(f, chunk, axis);
          if (r.high < own.low || r.low > own.high) return;
        }
        scatter_chunk(p, row, chunk, axis, own);
      });
    }
  });
}

}  // namespace
}  // namespace MEDSYNTH_ISA_NAMESPACE

MEDSYNTH_DEFINE_CPU(warp_backward, WarpBackwardParams, p) {
  dispatch_float(p.forward.real, [&](auto tag) {
    using T = decltype(tag);
    const ColumnTable<T> columns = make_columns<T>(p.forward);
    if (p.grad_moved != nullptr || p.grad_matrix != nullptr) backward_locations<T>(p, columns);
    if (p.grad_matrix != nullptr) sum_matrix(p);
    if (p.grad_src != nullptr) backward_source<T>(p, columns);
  });
}

}  // namespace medsynth
