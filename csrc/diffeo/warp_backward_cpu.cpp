#include "../common/dispatch.h"
#include "warp_rows.h"
#include "warp_vector.h"

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

#ifdef __AVX2__
// The same for a whole chunk; false when it is too far from the grid.
bool chunk_gradient(const WarpBackwardParams& p, const VectorGrid& grid, const Row<float>& row,
                    const Chunk<float>& chunk, float gq[3][kChunk]) {
  const WarpParams& f = p.forward;
  CellChunk cells;
  if (!grid.locate(chunk, cells)) return false;
  const int64_t out_voxels = volume_of(f.out_size);
  const float *src = static_cast<const float*>(f.src) + row.b * f.src_stride, *grad = grad_at(p, row, chunk);
  for (int64_t c = 0; c < f.channels; ++c) {
    prefetch_next_row<false>(grid, src + c * grid.voxels, cells.first, chunk.count, row.ahead);
  }
  for (int k = 0; k < chunk.count; k += 8) {
    const int left = chunk.count - k;
    Eight sums[3] = {};
    for (int64_t c = 0; c < f.channels; ++c) {
      const float* from = grad + c * out_voxels + k;
      Eight g{};
      if (left >= 8) {
        g = load<Eight>(from);
      } else {
        __builtin_memcpy(&g, from, static_cast<size_t>(left) * sizeof(float));
      }
      add_gradient8(grid, src + c * grid.voxels, cells, k, g, sums);
    }
    for (int d = 0; d < 3; ++d) store(gq[d] + k, sums[d]);
  }
  if (f.border == Border::clamp) grid.clear_beyond(chunk, gq);
  each_bit(cells.general, [&](int k) {
    float one[3];
    location_gradient(p, row, chunk, k, one);
    for (int d = 0; d < 3; ++d) gq[d][k] = one[d];
  });
  return true;
}
#endif

// dL/dq of a whole chunk.
template <class T>
void chunk_gradient(const WarpBackwardParams& p, const Row<T>& row, const Chunk<T>& chunk, T gq[3][kChunk]) {
  for (int k = 0; k < chunk.count; ++k) {
    T one[3];
    location_gradient(p, row, chunk, k, one);
    for (int d = 0; d < 3; ++d) gq[d][k] = one[d];
  }
}

constexpr int64_t kStreamBytes = int64_t{24} << 20;  // a gradient beyond this does not stay in the last cache

// Copies values, past the caches where `stream` is set.
template <class T>
void copy_values(const T* from, int count, [[maybe_unused]] bool stream, T* to) {
  int k = 0;
#ifdef __AVX2__
  if constexpr (sizeof(T) == 4) {
    if (stream && reinterpret_cast<uintptr_t>(to) % sizeof(Eight) == 0) {
      for (; k + 8 <= count; k += 8) _mm256_stream_ps(to + k, load<Eight>(from + k));
    }
  }
#endif
  __builtin_memcpy(to + k, from + k, static_cast<size_t>(count - k) * sizeof(T));
}

// The gradients to the moved location w and, summed over each plane, to the matrix.
template <class T>
void backward_locations(const WarpBackwardParams& p, const ColumnTable<T>& columns) {
  const WarpParams& f = p.forward;
  const int64_t planes = f.out_size[0], lines = f.out_size[1], out_voxels = volume_of(f.out_size);
  const int first = 3 - f.dims;
  const bool stream = f.batch * f.dims * out_voxels * static_cast<int64_t>(sizeof(T)) > kStreamBytes;
#ifdef __AVX2__
  const bool vector = sizeof(T) == 4 && VectorGrid::fits(f) && f.src_size[2] >= 2;
  const VectorGrid grid(f);
#endif
  parallel_for(0, f.batch * planes, 1, [&](int64_t begin, int64_t end) {
    for (int64_t plane = begin; plane < end; ++plane) {
      double sums[12] = {};
      walk_rows(f, columns, plane * lines, (plane + 1) * lines, [&](const Row<T>& row, const Chunk<T>& chunk) {
        const int64_t at = (row.z * lines + row.y) * f.out_size[2] + chunk.x0;
        T* moved = p.grad_moved ? static_cast<T*>(p.grad_moved) + row.b * f.dims * out_voxels + at : nullptr;
        alignas(64) T gq[3][kChunk];
#ifdef __AVX2__
        if constexpr (sizeof(T) == 4) {
          if (!vector || !chunk_gradient(p, grid, row, chunk, gq)) chunk_gradient(p, row, chunk, gq);
        } else {
          chunk_gradient(p, row, chunk, gq);
        }
#else
        chunk_gradient(p, row, chunk, gq);
#endif
        for (int c = first; moved != nullptr && c < 3; ++c) {
          const T m0 = static_cast<T>(row.affine.m[0][c]), m1 = static_cast<T>(row.affine.m[1][c]);
          const T m2 = static_cast<T>(row.affine.m[2][c]);
          T* to = moved + (c - first) * out_voxels;
          if (f.matrix == nullptr) {
            copy_values(gq[c], chunk.count, stream, to);
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

#ifdef __AVX2__
// Adds the corners of `count` cells to the four lines along x that they lie on.
inline void add_lines(const int32_t* first, const float (&corners)[8][kChunk], int count, float* const (&lines)[4]) {
  for (int k = 0; k < count; ++k) {
    const int64_t at = first[k];
    MEDSYNTH_UNROLL
    for (int i = 0; i < 4; ++i) {
      lines[i][at] += corners[2 * i][k];
      lines[i][at + 1] += corners[2 * i + 1][k];
    }
  }
}

// The same for a whole chunk whose cells all belong to the part that is wanted, in the same order.
void scatter_cells(const WarpBackwardParams& p, const VectorGrid& grid, const Row<float>& row,
                   const Chunk<float>& chunk, const CellChunk& cells) {
  const WarpParams& f = p.forward;
  float* to = static_cast<float*>(p.grad_src) + row.b * f.channels * grid.voxels;
  const float* grad = grad_at(p, row, chunk);
  alignas(64) float g[kChunk] = {}, corners[8][kChunk];
  for (int64_t c = 0; c < f.channels; ++c, to += grid.voxels, grad += volume_of(f.out_size)) {
    prefetch_next_row<true>(grid, to, cells.first, chunk.count, row.ahead);
    __builtin_memcpy(g, grad, static_cast<size_t>(chunk.count) * sizeof(float));
    for (int k = 0; k < chunk.count; k += kLanes) {
      const VecF z1 = load<VecF>(cells.weight[0] + k), y1 = load<VecF>(cells.weight[1] + k);
      const VecF x1 = load<VecF>(cells.weight[2] + k), x0 = 1.0f - x1, y0 = 1.0f - y1;
      const VecF g1 = load<VecF>(g + k) * z1, g0 = load<VecF>(g + k) * (1.0f - z1);
      const VecF lines[4] = {g0 * y0, g0 * y1, g1 * y0, g1 * y1};
      MEDSYNTH_UNROLL
      for (int i = 0; i < 4; ++i) {
        store(corners[2 * i] + k, lines[i] * x0);
        store(corners[2 * i + 1] + k, lines[i] * x1);
      }
    }
    float* const lines[4] = {to, to + grid.step[1], to + grid.step[0], to + grid.step[0] + grid.step[1]};
    add_lines(cells.first, corners, chunk.count, lines);
  }
}

// Adds the voxels of a chunk as scatter_chunk does; false when the chunk is too far from the grid. `inner` is the
// number of elements of a slab of one voxel along `axis`.
bool scatter_vectors(const WarpBackwardParams& p, const VectorGrid& grid, const Row<float>& row,
                     const Chunk<float>& chunk, int axis, Range own, int64_t inner) {
  CellChunk cells;
  if (!grid.locate(chunk, cells)) return false;
  if (cells.general != 0) {
    scatter_chunk(p, row, chunk, axis, own);
    return true;
  }
  int32_t low = cells.first[0], high = low;
  for (int k = 1; k < chunk.count; ++k) {
    low = cells.first[k] < low ? cells.first[k] : low;
    high = cells.first[k] > high ? cells.first[k] : high;
  }
  const int64_t from = low / inner, to = high / inner + (grid.step[axis] > 0 ? 1 : 0);
  if (to < own.low || from > own.high) return true;
  if (from >= own.low && to <= own.high) {
    scatter_cells(p, grid, row, chunk, cells);
  } else {
    scatter_chunk(p, row, chunk, axis, own);
  }
  return true;
}
#endif

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
#ifdef __AVX2__
  const bool vector = sizeof(T) == 4 && VectorGrid::fits(f) && f.src_size[2] >= 2;
  const VectorGrid grid(f);
  const int64_t inner = volume_of(f.src_size) / length;
#endif
  parallel_for(0, f.batch * slabs, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t b = i / slabs, slab = i % slabs;
      const Range own{length * slab / slabs, length * (slab + 1) / slabs - 1};
      clear_slab<T>(p, b, axis, own);
      walk_rows(f, columns, b * rows, (b + 1) * rows, [&](const Row<T>& row, const Chunk<T>& chunk) {
#ifdef __AVX2__
        if constexpr (sizeof(T) == 4) {
          if (vector && scatter_vectors(p, grid, row, chunk, axis, own, inner)) return;
        }
#endif
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
