// heatmap_moments: mass, mean, covariance and third central moments of every map, taken as a density over its voxels.
//
// softmax: w = exp(beta (h - max h)); linear: w = h where h >= threshold and h > 0, else 0. With a window, only voxels
// within it of the largest one along every axis count. The sums run about the largest voxel, in pieces of fixed size,
// so that they do not depend on the number of threads. A map with a NaN, or for softmax without a finite maximum, and a
// map of mass 0 has NaN moments.
//
// Backward: the gradient to voxel r is f w (c + l (r - mean) + (r - mean)' Q (r - mean)) with f w = w beta / mass for
// softmax, and 1 / mass where w > 0 for linear.
#pragma once
#include "../common/isa.h"
#include "../common/types.h"

namespace medsynth {

enum class MomentWeights : int32_t { softmax, linear };

constexpr int64_t kMomentPieces = 1 << 16;  // voxels to a piece, about
constexpr int64_t kMomentState = 3;         // largest value, mass, index of the largest voxel (-1: not to be used)

struct HeatmapMomentsParams {
  const void* maps;  // (count, n) dtype
  double* mass;      // (count)
  double* mean;      // (count, axes)
  double* cov;       // (count, axes, axes)
  double* third;     // (count, axes, axes, axes), null for none
  double* state;     // (count, kMomentState)
  void* partial;     // CUDA: (count, pieces) of MomentSums
  // Backward.
  const double* constant;               // (count)
  const double* linear;                 // (count, axes)
  const double* quadratic;              // (count, axes, axes)
  void* grad;                           // (count, n) dtype
  int64_t count, axes, window, pieces;  // window 0: everything
  int64_t n[3];                         // sizes, padded with leading ones to three axes
  double beta, threshold;
  MomentWeights weights;
  DType dtype;

  MEDSYNTH_HD int64_t volume() const { return n[0] * n[1] * n[2]; }
};

// What a piece of a map sums up about its largest voxel.
struct MomentSums {
  double most;        // the largest value, NaN when the piece holds a NaN
  double s0;          // sum of w; for softmax relative to `most`
  double s1[3];       // of w v
  double s2[6];       // of w v_a v_b, a <= b
  double s3[10];      // of w v_a v_b v_c, a <= b <= c
  int64_t reference;  // index of the largest voxel, -1 for none
};

MEDSYNTH_DECLARE_CPU(heatmap_moments, HeatmapMomentsParams)
MEDSYNTH_DECLARE_CPU(heatmap_moments_backward, HeatmapMomentsParams)
void heatmap_moments_cuda(const HeatmapMomentsParams& p, void* stream);
void heatmap_moments_backward_cuda(const HeatmapMomentsParams& p, void* stream);

}  // namespace medsynth
