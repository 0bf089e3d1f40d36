// synth_image: gmm_sample, times exp of a linearly resized bias grid, clipped, min-max normalised per plane (b, c),
// raised to a power; no gradient.
//
// The bias field spans the virtual grid: voxel i of an axis reads the grid at (i + origin) m / whole, cut at the last
// node. The first pass writes the clipped values to `out` and finds the extremes, the second pass finishes in place, so
// no other volume is needed. A voxel of mean 0 and std 0 is 0 after every step when the lower clip is 0.
#pragma once
#include "gmm_sample.h"

namespace medsynth {

struct SynthImageParams {
  GmmSampleParams sample;
  const void* bias;  // (B, C, m) dtype, or null
  int64_t m[3];      // nodes, padded to three axes with leading ones
  int64_t n[3];      // own grid
  int64_t whole[3], origin[3];
  const void* power;  // (B, C) dtype, or null
  bool clip, normalise;
  double low, high, eps;
  void* extremes;  // CUDA: (B, C, 2) 64-bit words, see synth_image_cuda.cu
};

MEDSYNTH_DECLARE_CPU(synth_image, SynthImageParams)
void synth_image_cuda(const SynthImageParams& p, void* stream);

}  // namespace medsynth
