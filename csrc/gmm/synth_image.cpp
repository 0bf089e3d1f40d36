#include "synth_image.h"

#include <torch/csrc/stable/library.h>

#include "../common/cuda_stream.h"
#include "gmm_door.h"

namespace medsynth {
namespace {

void run(GmmInputs& inputs, std::optional<Tensor> bias, std::optional<Tensor> power, const std::vector<double>& clip,
         bool normalise, double eps, int64_t seed, int64_t sample_offset, int64_t stream,
         const std::vector<int64_t>& index_shape, const std::vector<int64_t>& index_origin, bool validate,
         Tensor& out) {
  SynthImageParams p{};
  p.sample = gmm_params(inputs, seed, sample_offset, stream, index_shape, index_origin);
  GmmSampleParams& s = p.sample;
  check_same_dtype(inputs.means, "means", out, "out");
  check_out(out, gmm_shape(inputs.labels, s.channels), inputs.labels);
  const Spatial own = spatial_of(inputs.labels, 1, "labels");
  for (int d = 0; d < 3; ++d) {
    const int axis = d - (3 - own.dims);
    p.n[d] = own.n[d];
    p.whole[d] = axis >= 0 && !index_shape.empty() ? index_shape[static_cast<size_t>(axis)] : own.n[d];
    p.origin[d] = axis >= 0 && !index_shape.empty() ? index_origin[static_cast<size_t>(axis)] : 0;
    p.m[d] = 1;
  }
  if (bias) {
    check_same_dtype(inputs.means, "means", *bias, "bias_grid");
    check_same_device(inputs.labels, "labels", *bias, "bias_grid");
    const Spatial nodes = spatial_of(*bias, 2, "bias_grid");
    STD_TORCH_CHECK(
        bias->size(0) == s.batch && bias->size(1) == s.channels && nodes.dims == own.dims && nodes.voxels() > 0,
        "bias_grid must be (B, C, *m) with at least one node per axis, got ", shape_of(*bias));
    for (int d = 0; d < 3; ++d) p.m[d] = nodes.n[d];
    bias = torch::stable::contiguous(*bias);
    p.bias = bias->const_data_ptr();
  }
  if (power) {
    check_same_dtype(inputs.means, "means", *power, "power");
    check_same_device(inputs.labels, "labels", *power, "power");
    check_shape(*power, "power", {s.batch, s.channels});
    power = torch::stable::contiguous(*power);
    p.power = power->const_data_ptr();
  }
  STD_TORCH_CHECK(clip.empty() || clip.size() == 2, "clip must hold nothing or two numbers");
  p.clip = !clip.empty();
  p.low = p.clip ? clip[0] : 0;
  p.high = p.clip ? clip[1] : 0;
  p.normalise = normalise;
  p.eps = eps;
  if (s.batch * s.channels * s.grid.elements() == 0) return;
  s.out = out.mutable_data_ptr();
  std::optional<Tensor> bad;
  if (validate) bad = no_bad_label(inputs.labels);
  s.bad = bad ? bad->mutable_data_ptr<int64_t>() : nullptr;
#ifdef MEDSYNTH_WITH_CUDA
  if (on_cuda(out)) {
    const CudaScope scope(out.get_device());
    Tensor extremes = torch::stable::new_empty(out, {s.batch * s.channels * 2}, ScalarType::Long);
    p.extremes = extremes.mutable_data_ptr();
    synth_image_cuda(p, scope.stream);
    if (bad) report_bad_label(inputs.labels, *bad);
    return;
  }
#endif
  synth_image_cpu(p);
  if (bad) report_bad_label(inputs.labels, *bad);
}

Tensor synth_image(Tensor labels, Tensor means, Tensor stds, std::optional<Tensor> lut, std::optional<Tensor> bias_grid,
                   std::optional<Tensor> power, std::vector<double> clip, bool normalise, double eps, int64_t seed,
                   int64_t sample_offset, int64_t stream, std::vector<int64_t> index_shape,
                   std::vector<int64_t> index_origin, bool validate) {
  STD_TORCH_CHECK(labels.dim() >= 2 && means.dim() == 3, "labels must be (B, *S) and means (B, K, C)");
  Tensor out = new_output(means, gmm_shape(labels, means.size(2)));
  GmmInputs inputs{labels, means, stds, lut};
  run(inputs, bias_grid, power, clip, normalise, eps, seed, sample_offset, stream, index_shape, index_origin, validate,
      out);
  return out;
}

void synth_image_out(Tensor labels, Tensor means, Tensor stds, std::optional<Tensor> lut,
                     std::optional<Tensor> bias_grid, std::optional<Tensor> power, std::vector<double> clip,
                     bool normalise, double eps, int64_t seed, int64_t sample_offset, int64_t stream,
                     std::vector<int64_t> index_shape, std::vector<int64_t> index_origin, bool validate, Tensor out) {
  GmmInputs inputs{labels, means, stds, lut};
  run(inputs, bias_grid, power, clip, normalise, eps, seed, sample_offset, stream, index_shape, index_origin, validate,
      out);
}

}  // namespace
}  // namespace medsynth

STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, CPU, m) {
  m.impl("synth_image", TORCH_BOX(&medsynth::synth_image));
  m.impl("synth_image_out", TORCH_BOX(&medsynth::synth_image_out));
}
#ifdef MEDSYNTH_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, CUDA, m) {
  m.impl("synth_image", TORCH_BOX(&medsynth::synth_image));
  m.impl("synth_image_out", TORCH_BOX(&medsynth::synth_image_out));
}
#endif
