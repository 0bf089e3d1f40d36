// CUDA kernels on quad fields, shared by integrate_svf and compose. One thread per voxel, the batch in the same index.
#pragma once
#include "../common/cuda.h"
#include "../common/fixed_point.cuh"
#include "quad_math.h"

namespace medsynth {

constexpr int kQuadThreads = 256;

// Quads of a batch: sample b begins at data + b * stride (in quads).
template <class T>
struct QuadBatch {
  Quad<T>* data;
  int64_t stride;
};

struct VoxelOf {
  int64_t b, index, z, y, x;

  __device__ VoxelOf(const QuadGrid& g, int64_t i) {
    const int64_t voxels = g.voxels();
    b = i / voxels;
    index = i - b * voxels;
    const int64_t row = index / g.nx;
    x = index - row * g.nx;
    z = row / g.ny;
    y = row - z * g.ny;
  }
};

template <class T>
__device__ __forceinline__ Quad<T> read_planar(const T* planar, const QuadGrid& g, int64_t index, T scale) {
  const int64_t voxels = g.voxels();
  Quad<T> q = make_quad(T(0), T(0), T(0));
  for (int c = 0; c < g.dims; ++c) q.set(g.lane(c), planar[c * voxels + index] * scale);
  return q;
}

template <class T>
__device__ __forceinline__ void write_planar(const Quad<T>& q, const QuadGrid& g, int64_t index, T scale, T* planar) {
  const int64_t voxels = g.voxels();
  for (int c = 0; c < g.dims; ++c) planar[c * voxels + index] = q[g.lane(c)] * scale;
}

template <class T>
__global__ void pack_kernel(const T* planar, int64_t stride, QuadGrid g, int64_t batch, T scale, QuadBatch<T> out) {
  MEDSYNTH_GRID_STRIDE(i, batch * g.voxels()) {
    const VoxelOf v(g, i);
    out.data[v.b * out.stride + v.index] = read_planar(planar + v.b * stride, g, v.index, scale);
  }
}

template <class T>
__global__ void unpack_kernel(QuadBatch<T> in, QuadGrid g, int64_t batch, T scale, T* planar) {
  MEDSYNTH_GRID_STRIDE(i, batch * g.voxels()) {
    const VoxelOf v(g, i);
    write_planar(in.data[v.b * in.stride + v.index], g, v.index, scale, planar + v.b * g.dims * g.voxels());
  }
}

// disp + field(x + disp) into quads, or (when planar is given) into separate components.
template <Border B, class T>
__global__ void step_kernel(QuadBatch<T> disp, QuadBatch<T> field, QuadGrid g, int64_t batch, QuadBatch<T> out,
                            T* planar) {
  MEDSYNTH_GRID_STRIDE(i, batch * g.voxels()) {
    const VoxelOf v(g, i);
    const Quad<T> u = disp.data[v.b * disp.stride + v.index];
    const Cell<T> c = locate<B>(g, u, v.z, v.y, v.x);
    const Quad<T> r = u + sample_quad<B>(static_cast<const Quad<T>*>(field.data + v.b * field.stride), c);
    if (planar) {
      write_planar(r, g, v.index, T(1), planar + v.b * g.dims * g.voxels());
    } else {
      out.data[v.b * out.stride + v.index] = r;
    }
  }
}

// Sums of a scatter are kept as integers, whose addition has no order: a number g is held as g * 2^(bits - e), where e
// is the binary exponent of the sample's largest |g|. `largest` holds that number's bits as a double, one per sample.
__device__ __forceinline__ double fixed_scale(unsigned long long largest, int64_t contributions) {
  const double m = __longlong_as_double(static_cast<long long>(largest));
  if (!(m > 0.0) || isinf(m)) return m > 0.0 || m != m ? m - m : 0.0;  // NaN for infinite and NaN gradients
  int e = 0;
  frexp(m, &e);
  return ldexp(1.0, fixed_shift(contributions) - e);
}

template <class T>
__global__ void largest_kernel(QuadBatch<T> grad, QuadGrid g, int64_t batch, unsigned long long* largest) {
  MEDSYNTH_GRID_STRIDE(i, batch * g.voxels()) {
    const int64_t b = i / g.voxels();
    const Quad<T> q = grad.data[b * grad.stride + (i - b * g.voxels())];
    unsigned long long bits = 0;
    for (int k = 0; k < 3; ++k) {
      // Bits of numbers >= 0 order as the numbers do, NaN above all.
      const double a = fabs(static_cast<double>(q[k]));
      const unsigned long long own = static_cast<unsigned long long>(__double_as_longlong(a));
      bits = own > bits ? own : bits;
    }
    if (bits > *static_cast<volatile unsigned long long*>(largest + b)) atomicMax(largest + b, bits);
  }
}

// kept = grad + J^T grad; sums += the sampling weights times grad, sums (batch, 3, voxels).
template <Border B, class T>
__global__ void adjoint_kernel(QuadBatch<T> disp, QuadBatch<T> field, QuadBatch<T> grad, QuadGrid g, int64_t batch,
                               const unsigned long long* largest, QuadBatch<T> kept, unsigned long long* sums) {
  const int64_t voxels = g.voxels();
  MEDSYNTH_GRID_STRIDE(i, batch * voxels) {
    const VoxelOf v(g, i);
    const Quad<T> own = grad.data[v.b * grad.stride + v.index];
    const Cell<T> c = locate<B>(g, disp.data[v.b * disp.stride + v.index], v.z, v.y, v.x);
    const Quad<T>* f = field.data + v.b * field.stride;
    kept.data[v.b * kept.stride + v.index] = own + pull_back_to_location<B>(f, c, own);
    const double scale = fixed_scale(largest[v.b], voxels);
    unsigned long long* sample = sums + v.b * 3 * voxels;
    for (int corner = 0; corner < 8; ++corner) {
      const bool kz = corner & 4, ky = corner & 2, kx = corner & 1;
      if ((kz && !c.dz) || (ky && !c.dy) || (kx && !c.dx)) continue;
      const T weight = (kz ? c.w1[0] : c.w0[0]) * (ky ? c.w1[1] : c.w0[1]) * (kx ? c.w1[2] : c.w0[2]);
      if (weight == T(0)) continue;
      const int64_t at = c.base + (kz ? c.dz : 0) + (ky ? c.dy : 0) + (kx ? c.dx : 0);
      for (int k = 0; k < 3; ++k) {
        const long long add = __double2ll_rn(static_cast<double>(own[k] * weight) * scale);
        if (add != 0) atomicAdd(sample + k * voxels + at, static_cast<unsigned long long>(add));
      }
    }
  }
}

// out = (first or 0) + the integer sums.
template <class T>
__global__ void add_sums_kernel(QuadBatch<T> first, const unsigned long long* sums, const unsigned long long* largest,
                                QuadGrid g, int64_t batch, QuadBatch<T> out) {
  const int64_t voxels = g.voxels();
  MEDSYNTH_GRID_STRIDE(i, batch * voxels) {
    const int64_t b = i / voxels, index = i - b * voxels;
    const double scale = fixed_scale(largest[b], voxels), back = scale == 0.0 ? 0.0 : 1.0 / scale;
    Quad<T> q = first.data ? first.data[b * first.stride + index] : make_quad(T(0), T(0), T(0));
    for (int k = 0; k < 3; ++k) {
      const auto sum = static_cast<long long>(sums[(b * 3 + k) * voxels + index]);
      q.set(k, q[k] + static_cast<T>(static_cast<double>(sum) * back));
    }
    out.data[b * out.stride + index] = q;
  }
}

// What a scatter needs beside the fields: `largest` (batch) and `sums` (batch, 3, voxels).
struct ScatterScratch {
  unsigned long long *largest, *sums;

  static int64_t bytes(const QuadGrid& g, int64_t batch) { return 8 * (batch + 3 * batch * g.voxels()); }
  ScatterScratch(void* at, int64_t batch)
      : largest(static_cast<unsigned long long*>(at)), sums(static_cast<unsigned long long*>(at) + batch) {}
};

// kept = grad + J^T grad and the integer sums of the scatter of grad; kept must not be grad.
template <Border B, class T>
void launch_adjoint(QuadBatch<T> disp, QuadBatch<T> field, QuadBatch<T> grad, const QuadGrid& g, int64_t batch,
                    const ScatterScratch& s, QuadBatch<T> kept, cudaStream_t stream) {
  const unsigned blocks = blocks_for(batch * g.voxels(), kQuadThreads);
  cudaMemsetAsync(s.largest, 0, static_cast<size_t>(ScatterScratch::bytes(g, batch)), stream);
  MEDSYNTH_LAUNCH(largest_kernel<T>, blocks, kQuadThreads, stream, grad, g, batch, s.largest);
  MEDSYNTH_LAUNCH((adjoint_kernel<B, T>), blocks, kQuadThreads, stream, disp, field, grad, g, batch, s.largest, kept,
                  s.sums);
}

}  // namespace medsynth
