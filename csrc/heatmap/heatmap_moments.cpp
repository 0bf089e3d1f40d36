#include "heatmap_moments.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "../common/check.h"
#include "../common/cuda_stream.h"

namespace medsynth {
namespace {

HeatmapMomentsParams params(Tensor& maps, int64_t weights, double beta, double threshold, int64_t window) {
  HeatmapMomentsParams p{};
  p.dtype = float_dtype(maps, "maps");
  const Spatial s = spatial_of(maps, 1, "maps");
  STD_TORCH_CHECK(s.voxels() > 0, "maps must have at least one voxel, got shape ", shape_of(maps));
  STD_TORCH_CHECK(weights == 0 || weights == 1, "weights must be 0 (softmax) or 1 (linear), got ", weights);
  STD_TORCH_CHECK(beta >= 0, "beta must not be negative, got ", beta);
  STD_TORCH_CHECK(window >= 0 && window < (int64_t{1} << 40), "window must not be negative, got ", window);
  maps = torch::stable::contiguous(maps);
  p.maps = maps.const_data_ptr();
  p.count = maps.size(0);
  p.axes = s.dims;
  for (int d = 0; d < 3; ++d) p.n[d] = s.n[d];
  p.weights = static_cast<MomentWeights>(weights);
  p.beta = beta;
  p.threshold = threshold;
  p.window = window;
  return p;
}

Tensor doubles(const Tensor& like, const std::vector<int64_t>& shape) {
  return torch::stable::new_empty(like, shape, ScalarType::Double);
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> heatmap_moments(Tensor maps, int64_t weights, double beta,
                                                                   double threshold, int64_t window, bool third) {
  HeatmapMomentsParams p = params(maps, weights, beta, threshold, window);
  const int64_t count = p.count, axes = p.axes;
  Tensor mass = doubles(maps, {count}), mean = doubles(maps, {count, axes}), cov = doubles(maps, {count, axes, axes});
  Tensor thirds = doubles(maps, third ? std::vector<int64_t>{count, axes, axes, axes} : std::vector<int64_t>{0});
  Tensor state = doubles(maps, {count, kMomentState});
  if (count == 0) return {mass, mean, cov, thirds, state};
  p.mass = mass.mutable_data_ptr<double>();
  p.mean = mean.mutable_data_ptr<double>();
  p.cov = cov.mutable_data_ptr<double>();
  p.third = third ? thirds.mutable_data_ptr<double>() : nullptr;
  p.state = state.mutable_data_ptr<double>();
#ifdef MEDSYNTH_WITH_CUDA
  if (on_cuda(maps)) {
    const CudaScope scope(maps.get_device());
    p.pieces = window > 0 ? 1 : (p.volume() + kMomentPieces / 4 - 1) / (kMomentPieces / 4);
    constexpr int64_t kDoubles = sizeof(MomentSums) / sizeof(double);
    Tensor partial = doubles(maps, {count, p.pieces, kDoubles});
    p.partial = partial.mutable_data_ptr();
    heatmap_moments_cuda(p, scope.stream);
    return {mass, mean, cov, thirds, state};
  }
#endif
  heatmap_moments_cpu(p);
  return {mass, mean, cov, thirds, state};
}

// A float64 input of the given shape, contiguous.
const double* checked(Tensor& t, const char* name, const std::vector<int64_t>& shape, const Tensor& maps) {
  check_shape(t, name, shape);
  check_same_device(maps, "maps", t, name);
  STD_TORCH_CHECK(t.scalar_type() == ScalarType::Double, name, " must be float64");
  t = torch::stable::contiguous(t);
  return t.const_data_ptr<double>();
}

Tensor heatmap_moments_backward(Tensor maps, Tensor state, Tensor mean, Tensor constant, Tensor linear,
                                Tensor quadratic, int64_t weights, double beta, double threshold, int64_t window) {
  HeatmapMomentsParams p = params(maps, weights, beta, threshold, window);
  p.state = const_cast<double*>(checked(state, "state", {p.count, kMomentState}, maps));
  p.mean = const_cast<double*>(checked(mean, "mean", {p.count, p.axes}, maps));
  p.constant = checked(constant, "constant", {p.count}, maps);
  p.linear = checked(linear, "linear", {p.count, p.axes}, maps);
  p.quadratic = checked(quadratic, "quadratic", {p.count, p.axes, p.axes}, maps);
  Tensor grad = torch::stable::empty_like(maps);
  if (p.count == 0) return grad;
  p.grad = grad.mutable_data_ptr();
#ifdef MEDSYNTH_WITH_CUDA
  if (on_cuda(maps)) {
    const CudaScope scope(maps.get_device());
    heatmap_moments_backward_cuda(p, scope.stream);
    return grad;
  }
#endif
  heatmap_moments_backward_cpu(p);
  return grad;
}

}  // namespace
}  // namespace medsynth

#define MEDSYNTH_REGISTER(key)                                                          \
  STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, key, m) {                                     \
    m.impl("heatmap_moments", TORCH_BOX(&medsynth::heatmap_moments));                   \
    m.impl("heatmap_moments_backward", TORCH_BOX(&medsynth::heatmap_moments_backward)); \
  }
MEDSYNTH_REGISTER(CPU)
#ifdef MEDSYNTH_WITH_CUDA
MEDSYNTH_REGISTER(CUDA)
#endif
