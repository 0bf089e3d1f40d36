#include "../common/cuda.h"
#include "../common/dispatch.h"
#include "jacobian_determinant_math.h"

namespace medsynth {
namespace {

constexpr int kThreads = 256;

template <int kDims>
__device__ JacobianVoxel<kDims> voxel_of(const JacobianParams& p, int64_t i) {
  const int64_t row = i / p.n[2];
  return jacobian_voxel<kDims>(p, row / p.n[1], row % p.n[1], i - row * p.n[2]);
}

template <int kDims, class T>
__global__ void jacobian_kernel(JacobianParams p) {
  const int64_t voxels = p.n[0] * p.n[1] * p.n[2];
  MEDSYNTH_GRID_STRIDE(i, p.batch * voxels) {
    const int64_t b = i / voxels;
    const T* u = static_cast<const T*>(p.displacement) + b * kDims * voxels;
    static_cast<T*>(p.out)[i] = jacobian_determinant_voxel<kDims>(u, voxel_of<kDims>(p, i - b * voxels));
  }
}

template <int kDims, class T>
__global__ void jacobian_cofactor_kernel(JacobianParams p) {
  const int64_t voxels = p.n[0] * p.n[1] * p.n[2];
  MEDSYNTH_GRID_STRIDE(i, p.batch * voxels) {
    const int64_t b = i / voxels;
    const T* u = static_cast<const T*>(p.displacement) + b * kDims * voxels;
    jacobian_weighted_cofactors<kDims>(u, static_cast<const T*>(p.grad)[i], voxel_of<kDims>(p, i - b * voxels),
                                       static_cast<T*>(p.scratch) + b * kDims * kDims * voxels);
  }
}

template <int kDims, class T>
__global__ void jacobian_gather_kernel(JacobianParams p) {
  const int64_t voxels = p.n[0] * p.n[1] * p.n[2];
  MEDSYNTH_GRID_STRIDE(i, p.batch * voxels) {
    const int64_t b = i / voxels;
    const JacobianVoxel<kDims> v = voxel_of<kDims>(p, i - b * voxels);
    const T* weighted = static_cast<const T*>(p.scratch) + b * kDims * kDims * voxels;
    T* out = static_cast<T*>(p.out) + b * kDims * voxels + v.index;
    for (int c = 0; c < kDims; ++c) out[c * voxels] = jacobian_gather<kDims>(weighted, v, c);
  }
}

template <int kDims, class T>
void forward(const JacobianParams& p, unsigned blocks, cudaStream_t stream) {
  MEDSYNTH_LAUNCH((jacobian_kernel<kDims, T>), blocks, kThreads, stream, p);
}

template <int kDims, class T>
void backward(const JacobianParams& p, unsigned blocks, cudaStream_t stream) {
  MEDSYNTH_LAUNCH((jacobian_cofactor_kernel<kDims, T>), blocks, kThreads, stream, p);
  MEDSYNTH_LAUNCH((jacobian_gather_kernel<kDims, T>), blocks, kThreads, stream, p);
}

}  // namespace

void jacobian_determinant_cuda(const JacobianParams& p, void* stream_pointer) {
  const auto stream = static_cast<cudaStream_t>(stream_pointer);
  const unsigned blocks = blocks_for(p.batch * p.n[0] * p.n[1] * p.n[2], kThreads);
  dispatch_float(p.dtype, [&](auto tag) {
    using T = decltype(tag);
    if (p.dims == 3) forward<3, T>(p, blocks, stream);
    if (p.dims == 2) forward<2, T>(p, blocks, stream);
    if (p.dims == 1) forward<1, T>(p, blocks, stream);
  });
  check_launch("jacobian_determinant");
}

void jacobian_determinant_backward_cuda(const JacobianParams& p, void* stream_pointer) {
  const auto stream = static_cast<cudaStream_t>(stream_pointer);
  const unsigned blocks = blocks_for(p.batch * p.n[0] * p.n[1] * p.n[2], kThreads);
  dispatch_float(p.dtype, [&](auto tag) {
    using T = decltype(tag);
    if (p.dims == 3) backward<3, T>(p, blocks, stream);
    if (p.dims == 2) backward<2, T>(p, blocks, stream);
    if (p.dims == 1) backward<1, T>(p, blocks, stream);
  });
  check_launch("jacobian_determinant_backward");
}

}  // namespace medsynth
