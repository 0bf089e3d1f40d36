// Checks and parameters that the doors of gmm_sample, its backward and synth_image share.
#pragma once
#include <optional>

#include "../common/check.h"
#include "../common/grid_door.h"
#include "gmm_sample.h"

namespace medsynth {

struct GmmInputs {
  Tensor labels;              // (B, *S)
  Tensor means, stds;         // (B, K, C)
  std::optional<Tensor> lut;  // (Lmax + 1) int32
};

inline void check_lut(const std::optional<Tensor>& lut, const Tensor& labels) {
  if (!lut) return;
  STD_TORCH_CHECK(lut->scalar_type() == ScalarType::Int && lut->dim() == 1, "lut must be a vector of int32");
  check_same_device(labels, "labels", *lut, "lut");
}

// Checks and makes contiguous; returns the parameters without `out` and `bad`. `inputs` must outlive them.
inline GmmSampleParams gmm_params(GmmInputs& inputs, int64_t seed, int64_t sample_offset, int64_t stream,
                                  const std::vector<int64_t>& index_shape, const std::vector<int64_t>& index_origin) {
  auto& [labels, means, stds, lut] = inputs;
  GmmSampleParams p{};
  p.label_type = label_dtype(labels, "labels");
  p.dtype = float_dtype(means, "means");
  check_same_dtype(means, "means", stds, "stds");
  check_same_device(labels, "labels", means, "means");
  check_same_device(labels, "labels", stds, "stds");
  check_lut(lut, labels);
  STD_TORCH_CHECK(means.dim() == 3 && means.size(0) == labels.size(0), "means must be (B, K, C), got ",
                  shape_of(means));
  check_shape(stds, "stds", {means.size(0), means.size(1), means.size(2)});
  STD_TORCH_CHECK(means.size(2) <= 256, "at most 256 channels, got ", means.size(2));
  p.grid = index_grid_of(labels, 1, "labels", index_shape, index_origin);
  labels = torch::stable::contiguous(labels);
  means = torch::stable::contiguous(means);
  stds = torch::stable::contiguous(stds);
  if (lut) lut = torch::stable::contiguous(*lut);
  p.labels = labels.const_data_ptr();
  p.means = means.const_data_ptr();
  p.stds = stds.const_data_ptr();
  p.lut = lut ? lut->const_data_ptr<int32_t>() : nullptr;
  p.lut_size = lut ? lut->numel() : 0;
  p.batch = labels.size(0);
  p.classes = means.size(1);
  p.channels = means.size(2);
  p.seed = static_cast<uint64_t>(seed);
  p.sample_offset = static_cast<uint32_t>(sample_offset);
  p.stream = static_cast<uint32_t>(stream);
  return p;
}

inline std::vector<int64_t> gmm_shape(const Tensor& labels, int64_t channels) {
  std::vector<int64_t> shape{labels.size(0), channels};
  for (int64_t d = 1; d < labels.dim(); ++d) shape.push_back(labels.size(d));
  return shape;
}

// One number on the labels' device that no voxel index reaches.
inline Tensor no_bad_label(const Tensor& labels) {
  Tensor bad = torch::stable::new_empty(labels, {1}, ScalarType::Long);
  torch::stable::fill_(bad, static_cast<double>(int64_t{1} << 62));
  return bad;
}

// Throws when a label without class was met. Waits for the device.
inline void report_bad_label(const Tensor& labels, const Tensor& bad) {
  const Tensor on_host =
      bad.is_cuda() ? torch::stable::to(bad, torch::stable::Device(torch::headeronly::DeviceType::CPU)) : bad;
  int64_t at = *on_host.const_data_ptr<int64_t>();
  if (at >= int64_t{1} << 62) return;
  const int64_t flat = at;
  std::string position;
  for (int64_t d = labels.dim() - 1; d > 0; --d) {
    position = std::to_string(at % labels.size(d)) + (position.empty() ? "" : ", ") + position;
    at /= labels.size(d);
  }
  Tensor line = torch::stable::flatten(labels);
  Tensor one = torch::stable::narrow(line, 0, flat, 1);
  one = torch::stable::to(one, ScalarType::Long);
  if (one.is_cuda()) one = torch::stable::to(one, torch::stable::Device(torch::headeronly::DeviceType::CPU));
  STD_TORCH_CHECK(false, "labels holds ", *one.const_data_ptr<int64_t>(), " in sample ", at, " at position (", position,
                  labels.dim() == 2 ? ",)" : ")", ", which has no class");
}

}  // namespace medsynth
