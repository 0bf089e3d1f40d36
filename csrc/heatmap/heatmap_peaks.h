// heatmap_peak: the largest voxel of every map; heatmap_peaks_nms: its local maxima. Both refined below one voxel.
//
// heatmap_peak: ties to the lowest index, NaN never; without any number index -1, coordinates and value NaN.
// heatmap_peaks_nms: voxels with h > threshold that exceed every earlier voxel of the (2 window + 1)^D box and no later
// one exceeds (earlier ones may be equal with all_ties); voxels outside the image and NaN do not count. They are taken
// by value, then index; one within `radius` (in units of spacing) of a taken one is dropped, until max_peaks are taken.
// Results are padded with NaN coordinates and -inf values.
#pragma once
#include "../common/isa.h"
#include "../common/types.h"

namespace medsynth {

enum class PeakRefine : int32_t { none, parabola, log_parabola, dark, com };

constexpr int64_t kPeakMaxReach = 60;

struct HeatmapPeaksParams {
  const void* maps;  // (count, n) dtype
  void* coords;      // (count, max_peaks, axes) dtype
  void* value;       // (count, max_peaks) dtype
  int64_t* index;    // heatmap_peak: (count), -1 for none
  int64_t* found;    // heatmap_peaks_nms: (count)
  void* scratch;     // CUDA: heatmap_peak: (count, segments) values; nms: (count, capacity) uint32 candidates
  int64_t* places;   // CUDA, heatmap_peak: (count, segments) indices
  int32_t* waiting;  // CUDA, nms: (count) number of candidates, zeros
  int64_t count, axes, max_peaks, window, border, capacity, segments;
  int64_t n[3];  // sizes, padded with leading ones to three axes
  double threshold, radius;
  int64_t reach;                   // taps on each side of the smoothing before dark; 0 for none
  double taps[kPeakMaxReach + 1];  // their weights, from the middle outwards; with both sides the sum is 1
  double spacing[3];
  PeakRefine refine;
  DType dtype;
  bool all_ties;

  MEDSYNTH_HD int64_t volume() const { return n[0] * n[1] * n[2]; }
};

constexpr int64_t kPeakSegment = 1 << 16;  // voxels that are searched in one go

MEDSYNTH_DECLARE_CPU(heatmap_peak, HeatmapPeaksParams)
MEDSYNTH_DECLARE_CPU(heatmap_peaks_nms, HeatmapPeaksParams)
void heatmap_peak_cuda(const HeatmapPeaksParams& p, void* stream);
void heatmap_peaks_nms_cuda(const HeatmapPeaksParams& p, void* stream);

}  // namespace medsynth
