// jacobian_determinant: det(I + grad u) at every voxel of a displacement; central differences inside, one-sided at the
// ends of an axis, zero on an axis of one voxel.
//
// Backward: stage one stores g times the cofactors at every voxel, stage two gathers them with the transposed stencil.
#pragma once
#include "../common/dispatch.h"
#include "../common/types.h"

namespace medsynth {

struct JacobianParams {
  const void* displacement;  // (batch, dims, n[3-dims..2])
  const void* grad;          // backward: (batch, 1, ...)
  void* out;                 // forward (batch, 1, ...), backward like displacement
  void* scratch;             // backward on CUDA: batch * dims * dims * voxels numbers
  DType dtype;
  int64_t batch;
  int64_t n[3];  // leading axes of one voxel when dims < 3
  int32_t dims;
};

MEDSYNTH_DECLARE_CPU(jacobian_determinant, JacobianParams)
MEDSYNTH_DECLARE_CPU(jacobian_determinant_backward, JacobianParams)
void jacobian_determinant_cuda(const JacobianParams& p, void* stream);
void jacobian_determinant_backward_cuda(const JacobianParams& p, void* stream);

}  // namespace medsynth
