#include "heatmap_peaks.h"

#include <torch/csrc/stable/library.h>

#include <cmath>
#include <tuple>

#include "../common/check.h"
#include "../common/cuda_stream.h"

namespace medsynth {
namespace {

HeatmapPeaksParams params(Tensor& maps, int64_t refine, int64_t window, double smooth) {
  HeatmapPeaksParams p{};
  p.dtype = float_dtype(maps, "maps");
  const Spatial s = spatial_of(maps, 1, "maps");
  STD_TORCH_CHECK(s.voxels() > 0, "maps must have at least one voxel, got shape ", shape_of(maps));
  STD_TORCH_CHECK(refine >= 0 && refine <= 4, "refine must be 0 to 4, got ", refine);
  STD_TORCH_CHECK(window >= 1 && window < (int64_t{1} << 20), "window must be at least 1, got ", window);
  STD_TORCH_CHECK(smooth >= 0 && smooth <= kPeakMaxReach / 3, "smooth must be in [0, 20], got ", smooth);
  maps = torch::stable::contiguous(maps);
  p.maps = maps.const_data_ptr();
  p.count = maps.size(0);
  p.axes = s.dims;
  for (int d = 0; d < 3; ++d) p.n[d] = s.n[d];
  p.refine = static_cast<PeakRefine>(refine);
  p.window = window;
  p.reach = static_cast<int64_t>(std::ceil(3 * smooth));
  double sum = 0;
  for (int64_t k = 0; k <= p.reach; ++k) {
    p.taps[k] = k == 0 ? 1.0 : std::exp(-0.5 * static_cast<double>(k * k) / (smooth * smooth));
    sum += k == 0 ? p.taps[k] : 2 * p.taps[k];
  }
  for (int64_t k = 0; k <= p.reach; ++k) p.taps[k] /= sum;
  p.max_peaks = 1;
  return p;
}

std::tuple<Tensor, Tensor, Tensor> heatmap_peak(Tensor maps, int64_t refine, int64_t window, double smooth) {
  HeatmapPeaksParams p = params(maps, refine, window, smooth);
  Tensor coords = torch::stable::new_empty(maps, {p.count, p.axes});
  Tensor value = torch::stable::new_empty(maps, {p.count});
  Tensor index = torch::stable::new_empty(maps, {p.count}, ScalarType::Long);
  if (p.count == 0) return {coords, value, index};
  p.coords = coords.mutable_data_ptr();
  p.value = value.mutable_data_ptr();
  p.index = index.mutable_data_ptr<int64_t>();
#ifdef MEDSYNTH_WITH_CUDA
  if (on_cuda(maps)) {
    const CudaScope scope(maps.get_device());
    p.segments = (p.volume() + kPeakSegment / 4 - 1) / (kPeakSegment / 4);
    Tensor values = torch::stable::new_empty(maps, {p.count, p.segments});
    Tensor places = torch::stable::new_empty(maps, {p.count, p.segments}, ScalarType::Long);
    p.scratch = values.mutable_data_ptr();
    p.places = places.mutable_data_ptr<int64_t>();
    heatmap_peak_cuda(p, scope.stream);
    return {coords, value, index};
  }
#endif
  heatmap_peak_cpu(p);
  return {coords, value, index};
}

std::tuple<Tensor, Tensor, Tensor> heatmap_peaks_nms(Tensor maps, double threshold, double radius, int64_t max_peaks,
                                                     int64_t window, int64_t refine, double smooth, int64_t border,
                                                     std::vector<double> spacing, bool all_ties) {
  HeatmapPeaksParams p = params(maps, refine, window, smooth);
  STD_TORCH_CHECK(max_peaks >= 1 && max_peaks < (int64_t{1} << 31), "max_peaks must be at least 1, got ", max_peaks);
  STD_TORCH_CHECK(border >= 0 && border < (int64_t{1} << 40), "border must not be negative, got ", border);
  STD_TORCH_CHECK(static_cast<int64_t>(spacing.size()) == p.axes, "spacing must have one entry per spatial axis");
  p.threshold = threshold;
  p.radius = radius;
  p.max_peaks = max_peaks;
  p.border = border;
  p.all_ties = all_ties;
  for (size_t d = 0; d < spacing.size(); ++d) p.spacing[3 - spacing.size() + d] = spacing[d];
  Tensor coords = torch::stable::new_empty(maps, {p.count, max_peaks, p.axes});
  Tensor value = torch::stable::new_empty(maps, {p.count, max_peaks});
  Tensor found = torch::stable::new_empty(maps, {p.count}, ScalarType::Long);
  if (p.count == 0) return {coords, value, found};
  p.coords = coords.mutable_data_ptr();
  p.value = value.mutable_data_ptr();
  p.found = found.mutable_data_ptr<int64_t>();
#ifdef MEDSYNTH_WITH_CUDA
  if (on_cuda(maps)) {
    const CudaScope scope(maps.get_device());
    STD_TORCH_CHECK(p.volume() < (int64_t{1} << 31), "maps must have fewer than 2^31 voxels each");
    // Of the 2^D voxels of a block at most one is a peak, since all are neighbours.
    p.capacity = all_ties ? p.volume() : ((p.n[0] + 1) / 2) * ((p.n[1] + 1) / 2) * ((p.n[2] + 1) / 2);
    Tensor candidates = torch::stable::new_empty(maps, {p.count, p.capacity}, ScalarType::Int);
    Tensor waiting = torch::stable::new_zeros(maps, {p.count}, ScalarType::Int);
    p.scratch = candidates.mutable_data_ptr();
    p.waiting = waiting.mutable_data_ptr<int32_t>();
    heatmap_peaks_nms_cuda(p, scope.stream);
    return {coords, value, found};
  }
#endif
  heatmap_peaks_nms_cpu(p);
  return {coords, value, found};
}

}  // namespace
}  // namespace medsynth

#define MEDSYNTH_REGISTER(key)                                            \
  STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, key, m) {                       \
    m.impl("heatmap_peak", TORCH_BOX(&medsynth::heatmap_peak));           \
    m.impl("heatmap_peaks_nms", TORCH_BOX(&medsynth::heatmap_peaks_nms)); \
  }
MEDSYNTH_REGISTER(CPU)
#ifdef MEDSYNTH_WITH_CUDA
MEDSYNTH_REGISTER(CUDA)
#endif
