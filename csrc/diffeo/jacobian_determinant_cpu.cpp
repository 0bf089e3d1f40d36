#include "../common/dispatch.h"
#include "../common/parallel.h"
#include "../common/workspace.h"
#include "jacobian_determinant_math.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

// Calls f(voxel, sample) for every voxel, in parallel over the rows of `samples` samples from `first`.
template <int kDims, class F>
void each_voxel(const JacobianParams& p, int64_t first, int64_t samples, F f) {
  const int64_t rows = p.n[0] * p.n[1];
  parallel_for(0, samples * rows, 16384 / p.n[2] + 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t row = r % rows;
      for (int64_t x = 0; x < p.n[2]; ++x) {
        f(jacobian_voxel<kDims>(p, row / p.n[1], row % p.n[1], x), first + r / rows);
      }
    }
  });
}

template <int kDims, class T>
void jacobian_forward(const JacobianParams& p) {
  const T* u = static_cast<const T*>(p.displacement);
  T* out = static_cast<T*>(p.out);
  each_voxel<kDims>(p, 0, p.batch, [=](const JacobianVoxel<kDims>& v, int64_t b) {
    out[b * v.voxels + v.index] = jacobian_determinant_voxel<kDims>(u + b * kDims * v.voxels, v);
  });
}

template <int kDims, class T>
void jacobian_backward(const JacobianParams& p) {
  const T *u = static_cast<const T*>(p.displacement), *grad = static_cast<const T*>(p.grad);
  T* out = static_cast<T*>(p.out);
  const int64_t voxels = p.n[0] * p.n[1] * p.n[2];
  T* weighted = static_cast<T*>(workspace(0, kDims * kDims * voxels * static_cast<int64_t>(sizeof(T))));
  for (int64_t sample = 0; sample < p.batch; ++sample) {
    each_voxel<kDims>(p, sample, 1, [=](const JacobianVoxel<kDims>& v, int64_t b) {
      jacobian_weighted_cofactors<kDims>(u + b * kDims * v.voxels, grad[b * v.voxels + v.index], v, weighted);
    });
    each_voxel<kDims>(p, sample, 1, [=](const JacobianVoxel<kDims>& v, int64_t b) {
      for (int c = 0; c < kDims; ++c)
        out[(b * kDims + c) * v.voxels + v.index] = jacobian_gather<kDims>(weighted, v, c);
    });
  }
}

}  // namespace MEDSYNTH_ISA_NAMESPACE

MEDSYNTH_DEFINE_CPU(jacobian_determinant, JacobianParams, p) {
  dispatch_float(p.dtype, [&](auto tag) {
    using T = decltype(tag);
    p.dims == 3 ? jacobian_forward<3, T>(p) : p.dims == 2 ? jacobian_forward<2, T>(p) : jacobian_forward<1, T>(p);
  });
}

MEDSYNTH_DEFINE_CPU(jacobian_determinant_backward, JacobianParams, p) {
  dispatch_float(p.dtype, [&](auto tag) {
    using T = decltype(tag);
    p.dims == 3 ? jacobian_backward<3, T>(p) : p.dims == 2 ? jacobian_backward<2, T>(p) : jacobian_backward<1, T>(p);
  });
}

}  // namespace medsynth
