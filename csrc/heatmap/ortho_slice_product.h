// ortho_slice_product: one volume from the stacks of its slices along the three axes, in cyclic layout:
// out[i,j,k] = z[k,i,j] y[j,k,i] x[i,j,k], or the exponential of their sum when they are logarithms.
//
// Backward: every stack gets the gradient times the other two (linear), or the gradient times the product (log).
#pragma once
#include "../common/isa.h"
#include "../common/types.h"

namespace medsynth {

constexpr int64_t kSliceTile = 16;  // CPU: voxels along each side of a tile
constexpr int kSliceTileCuda = 8;   // CUDA: a thread per voxel of a tile

struct OrthoSliceProductParams {
  const void* z;  // (batch, K, I, J) dtype
  const void* y;  // (batch, J, K, I)
  const void* x;  // (batch, I, J, K)
  void* out;      // (batch, I, J, K); null in the backward
  // Backward.
  const void* grad;  // (batch, I, J, K)
  void* grad_z;      // like z
  void* grad_y;      // like y
  void* grad_x;      // like x
  int64_t batch;
  int64_t n[3];  // I, J, K
  bool log;
  DType dtype;

  MEDSYNTH_HD int64_t volume() const { return n[0] * n[1] * n[2]; }
  MEDSYNTH_HD int64_t at_z(int64_t i, int64_t j, int64_t k) const { return (k * n[0] + i) * n[1] + j; }
  MEDSYNTH_HD int64_t at_y(int64_t i, int64_t j, int64_t k) const { return (j * n[2] + k) * n[0] + i; }
  MEDSYNTH_HD int64_t at_x(int64_t i, int64_t j, int64_t k) const { return (i * n[1] + j) * n[2] + k; }
};

MEDSYNTH_DECLARE_CPU(ortho_slice_product, OrthoSliceProductParams)
MEDSYNTH_DECLARE_CPU(ortho_slice_product_backward, OrthoSliceProductParams)
void ortho_slice_product_cuda(const OrthoSliceProductParams& p, void* stream);
void ortho_slice_product_backward_cuda(const OrthoSliceProductParams& p, void* stream);

}  // namespace medsynth
