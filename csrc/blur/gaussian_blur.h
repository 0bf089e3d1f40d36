// gaussian_blur: separable Gaussian blur of (B, C, D, H, W) with one sigma per sample and axis.
//
// y = A_z A_y A_x x per channel, where row i of A holds the weights w_k, k = -r..r, r = ceil(truncate sigma),
// w_k ~ exp(-k^2 / (2 sigma^2)), sum 1, at the voxels that i + k stands for: the nearest one (replicate), none (zeros)
// or the mirror image about the centres of the first and last voxel (reflect). All of these lie within r of i, so A is
// a band. sigma = 0 leaves an axis alone. The gradient is the same with the transposed bands.
#pragma once
#include "../common/isa.h"
#include "../common/types.h"

namespace medsynth {

enum class BlurBorder : int32_t { replicate, zeros, reflect };

constexpr int64_t kBlurMaxRadius = 8192;

struct GaussianBlurParams {
  const void* x;        // (B, C, n) dtype
  void* out;            // (B, C, n) dtype, not overlapping x
  void* scratch[2];     // CUDA only: two more of that size
  const double* sigma;  // (B, axes), on the device of x
  int64_t batch, channels, axes;
  int64_t n[3];  // sizes, padded with leading ones to three axes
  double truncate;
  BlurBorder border;
  DType dtype;
  bool transposed;

  MEDSYNTH_HD int64_t volume() const { return n[0] * n[1] * n[2]; }
};

MEDSYNTH_DECLARE_CPU(gaussian_blur, GaussianBlurParams)
void gaussian_blur_cuda(const GaussianBlurParams& p, void* stream);

}  // namespace medsynth
