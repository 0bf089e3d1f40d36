#include "render_heatmaps.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "../common/check.h"
#include "../common/cuda_stream.h"

namespace medsynth {
namespace {

// The inputs, contiguous; they must outlive the parameters.
struct Inputs {
  Tensor points, sigma, half, amplitude;
  std::optional<Tensor> order, offsets;
};

RenderHeatmapsParams params(Inputs& in, int64_t maps, const std::vector<int64_t>& size, bool sum) {
  RenderHeatmapsParams p{};
  p.dtype = float_dtype(in.points, "points");
  STD_TORCH_CHECK(in.points.dim() == 2, "points must be (M, D), got ", shape_of(in.points));
  p.count = in.points.size(0);
  p.axes = in.points.size(1);
  const auto axes = static_cast<size_t>(p.axes);
  STD_TORCH_CHECK(p.axes >= 1 && p.axes <= 3 && size.size() == axes, "points and size must have one to three axes");
  for (auto [tensor, name] : {std::pair{&in.sigma, "sigma"}, {&in.half, "half"}, {&in.amplitude, "amplitude"}}) {
    check_same_dtype(in.points, "points", *tensor, name);
    check_same_device(in.points, "points", *tensor, name);
    *tensor = torch::stable::contiguous(*tensor);
  }
  in.points = torch::stable::contiguous(in.points);
  check_shape(in.sigma, "sigma", {p.count, p.axes});
  check_shape(in.half, "half", {p.count, p.axes});
  check_shape(in.amplitude, "amplitude", {p.count});
  STD_TORCH_CHECK(in.order.has_value() == in.offsets.has_value(), "order and offsets come together");
  STD_TORCH_CHECK(in.order.has_value() || maps == p.count, "without order there must be as many maps as points");
  STD_TORCH_CHECK(maps >= 0, "maps must not be negative, got ", maps);
  if (in.order.has_value()) {
    check_shape(*in.order, "order", {p.count});
    check_shape(*in.offsets, "offsets", {maps + 1});
    for (auto [tensor, name] : {std::pair{&*in.order, "order"}, {&*in.offsets, "offsets"}}) {
      STD_TORCH_CHECK(tensor->scalar_type() == ScalarType::Long, name, " must be int64");
      check_same_device(in.points, "points", *tensor, name);
      *tensor = torch::stable::contiguous(*tensor);
    }
    p.order = in.order->const_data_ptr<int64_t>();
    p.offsets = in.offsets->const_data_ptr<int64_t>();
  }
  p.points = in.points.const_data_ptr();
  p.sigma = in.sigma.const_data_ptr();
  p.half = in.half.const_data_ptr();
  p.amplitude = in.amplitude.const_data_ptr();
  p.maps = maps;
  for (int d = 0; d < 3; ++d) p.n[d] = 1;
  for (size_t d = 0; d < axes; ++d) {
    STD_TORCH_CHECK(size[d] >= 1, "size must be at least 1, got ", size[d]);
    p.n[3 - axes + d] = size[d];
  }
  p.sum = sum;
  return p;
}

std::vector<int64_t> result_shape(int64_t maps, const std::vector<int64_t>& size) {
  std::vector<int64_t> shape{maps};
  shape.insert(shape.end(), size.begin(), size.end());
  return shape;
}

void run(Inputs in, int64_t maps, const std::vector<int64_t>& size, bool sum, Tensor& out) {
  RenderHeatmapsParams p = params(in, maps, size, sum);
  check_same_dtype(in.points, "points", out, "out");
  check_out(out, result_shape(maps, size), in.points);
  if (out.numel() == 0) return;
  p.out = out.mutable_data_ptr();
#ifdef MEDSYNTH_WITH_CUDA
  if (on_cuda(out)) {
    const CudaScope scope(out.get_device());
    render_heatmaps_cuda(p, scope.stream);
    return;
  }
#endif
  render_heatmaps_cpu(p);
}

Tensor render_heatmaps(Tensor points, Tensor sigma, Tensor half, Tensor amplitude, std::optional<Tensor> order,
                       std::optional<Tensor> offsets, int64_t maps, std::vector<int64_t> size, bool sum) {
  Tensor out = torch::stable::new_empty(points, result_shape(maps, size));
  run({points, sigma, half, amplitude, order, offsets}, maps, size, sum, out);
  return out;
}

void render_heatmaps_out(Tensor points, Tensor sigma, Tensor half, Tensor amplitude, std::optional<Tensor> order,
                         std::optional<Tensor> offsets, int64_t maps, std::vector<int64_t> size, bool sum, Tensor out) {
  run({points, sigma, half, amplitude, order, offsets}, maps, size, sum, out);
}

std::tuple<Tensor, Tensor, Tensor> render_heatmaps_backward(Tensor grad, Tensor points, Tensor sigma, Tensor half,
                                                            Tensor amplitude, std::optional<Tensor> order,
                                                            std::optional<Tensor> offsets, bool sum) {
  STD_TORCH_CHECK(grad.dim() >= 2, "grad must be (maps, *size), got ", shape_of(grad));
  std::vector<int64_t> size;
  for (int64_t d = 1; d < grad.dim(); ++d) size.push_back(grad.size(d));
  Inputs in{points, sigma, half, amplitude, order, offsets};
  RenderHeatmapsParams p = params(in, grad.size(0), size, sum);
  check_same_dtype(in.points, "points", grad, "grad");
  check_same_device(in.points, "points", grad, "grad");
  grad = torch::stable::contiguous(grad);
  Tensor grad_points = torch::stable::new_zeros(in.points, {p.count, p.axes});
  Tensor grad_sigma = torch::stable::new_zeros(in.points, {p.count, p.axes});
  Tensor grad_amplitude = torch::stable::new_zeros(in.points, {p.count});
  if (p.count == 0) return {grad_points, grad_sigma, grad_amplitude};
  p.grad = grad.const_data_ptr();
  p.grad_points = grad_points.mutable_data_ptr();
  p.grad_sigma = grad_sigma.mutable_data_ptr();
  p.grad_amplitude = grad_amplitude.mutable_data_ptr();
#ifdef MEDSYNTH_WITH_CUDA
  if (on_cuda(grad)) {
    const CudaScope scope(grad.get_device());
    render_heatmaps_backward_cuda(p, scope.stream);
    return {grad_points, grad_sigma, grad_amplitude};
  }
#endif
  render_heatmaps_backward_cpu(p);
  return {grad_points, grad_sigma, grad_amplitude};
}

}  // namespace
}  // namespace medsynth

#define MEDSYNTH_REGISTER(key)                                                          \
  STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, key, m) {                                     \
    m.impl("render_heatmaps", TORCH_BOX(&medsynth::render_heatmaps));                   \
    m.impl("render_heatmaps_out", TORCH_BOX(&medsynth::render_heatmaps_out));           \
    m.impl("render_heatmaps_backward", TORCH_BOX(&medsynth::render_heatmaps_backward)); \
  }
MEDSYNTH_REGISTER(CPU)
#ifdef MEDSYNTH_WITH_CUDA
MEDSYNTH_REGISTER(CUDA)
#endif
