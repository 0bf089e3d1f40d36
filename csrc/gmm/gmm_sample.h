// gmm_sample: an image from a label map. y[b, c, x] = mean[b, k, c] + std[b, k, c] n(seed, sample, stream, c, v(x))
// with k the class of labels[b, x] and n a standard normal number; NaN where the label has no class.
//
// The class of a label is lut[label] (an entry outside [0, K) means none), without lut the label itself.
// The gradient sums g (for means) and g n (for stds) over the voxels of each class: float64 partial sums over pieces of
// fixed size, added up in fixed order; n is drawn again.
#pragma once
#include "../common/index_grid.h"
#include "../common/isa.h"
#include "../common/types.h"

namespace medsynth {

struct GmmSampleParams {
  const void* labels;  // (B, elements) label_type
  const void* means;   // (B, K, C) dtype
  const void* stds;    // (B, K, C) dtype
  const int32_t* lut;  // (lut_size) or null
  void* out;           // (B, C, elements) dtype
  int64_t* bad;        // one number: the smallest b * elements + x without class, else what was there; or null
  DType label_type, dtype;
  int64_t batch, classes, channels, lut_size;
  IndexGrid grid;
  uint64_t seed;
  uint32_t sample_offset, stream;

  // How many label values the table knows; the class of a value below that, or -1.
  MEDSYNTH_HD int64_t known() const { return lut != nullptr ? lut_size : classes; }
  MEDSYNTH_HD int64_t class_of(uint64_t label) const {
    if (label >= static_cast<uint64_t>(known())) return -1;
    const int64_t k = lut != nullptr ? lut[label] : static_cast<int64_t>(label);
    return k >= 0 && k < classes ? k : -1;
  }
};

struct GmmSampleBackwardParams {
  GmmSampleParams sample;  // labels, lut, sizes and seed; the rest unused
  const void* grad;        // (B, C, elements) dtype
  double* partial;         // scratch: (B, C, pieces, K, 2)
  int64_t pieces;
  void* grad_means;  // (B, K, C) dtype, or null when not wanted
  void* grad_stds;
};

constexpr int64_t kGmmPiece = 32768;  // voxels summed by one CPU piece
constexpr int64_t kGmmWarps = 2048;   // at most so many partial sums on a GPU

MEDSYNTH_DECLARE_CPU(gmm_sample, GmmSampleParams)
MEDSYNTH_DECLARE_CPU(gmm_sample_backward, GmmSampleBackwardParams)
void gmm_sample_cuda(const GmmSampleParams& p, void* stream);
void gmm_sample_backward_cuda(const GmmSampleBackwardParams& p, void* stream);

}  // namespace medsynth
