#include "integrate_svf.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "field_checks.h"

namespace medsynth::doors {
namespace {

IntegrateSvfParams params(const Tensor& velocity, int64_t steps, int64_t border, bool inverse) {
  STD_TORCH_CHECK(steps >= 0 && steps <= 16, "steps must be in 0..16, got ", steps);
  IntegrateSvfParams p{};
  p.velocity = velocity.const_data_ptr();
  p.dtype = float_dtype(velocity, "velocity");
  p.border = border_of(border);
  p.batch = velocity.size(0);
  p.grid = field_grid(velocity, "velocity");
  p.steps = static_cast<int32_t>(steps);
  p.inverse = inverse;
  return p;
}

void forward([[maybe_unused]] const Tensor& velocity, IntegrateSvfParams& p) {
  if (velocity.numel() == 0) return;
#ifdef MEDSYNTH_WITH_CUDA
  if (on_cuda(velocity)) {
    const CudaScope scope(velocity.get_device());
    Tensor scratch = bytes_like(velocity, integrate_svf_scratch_bytes(p));
    p.scratch = scratch.mutable_data_ptr();
    return integrate_svf_cuda(p, scope.stream);
  }
#endif
  integrate_svf_cpu(p);
}

void integrate_svf_out(Tensor velocity, int64_t steps, int64_t border, bool inverse, Tensor out) {
  field_grid(velocity, "velocity");
  check_out(out, sizes_of(velocity), velocity);
  check_same_dtype(velocity, "velocity", out, "out");
  velocity = torch::stable::contiguous(velocity);
  IntegrateSvfParams p = params(velocity, steps, border, inverse);
  p.out = out.mutable_data_ptr();
  forward(velocity, p);
}

Tensor integrate_svf(Tensor velocity, int64_t steps, int64_t border, bool inverse) {
  velocity = torch::stable::contiguous(velocity);
  IntegrateSvfParams p = params(velocity, steps, border, inverse);
  Tensor out = new_output(velocity, sizes_of(velocity));
  p.out = out.mutable_data_ptr();
  forward(velocity, p);
  return out;
}

std::tuple<Tensor, Tensor> integrate_svf_saving(Tensor velocity, int64_t steps, int64_t border, bool inverse) {
  velocity = torch::stable::contiguous(velocity);
  IntegrateSvfParams p = params(velocity, steps, border, inverse);
  Tensor out = new_output(velocity, sizes_of(velocity));
  Tensor levels = new_output(velocity, {p.batch, steps, p.grid.voxels(), 4});
  p.out = out.mutable_data_ptr();
  p.levels = levels.mutable_data_ptr();
  forward(velocity, p);
  return {out, levels};
}

// `levels` is what integrate_svf_saving returned, or an empty tensor: then they are computed again.
Tensor integrate_svf_backward(Tensor grad, Tensor velocity, Tensor levels, int64_t steps, int64_t border,
                              bool inverse) {
  velocity = torch::stable::contiguous(velocity);
  IntegrateSvfParams p = params(velocity, steps, border, inverse);
  check_shape(grad, "grad", sizes_of(velocity));
  check_same_dtype(velocity, "velocity", grad, "grad");
  check_same_device(velocity, "velocity", grad, "grad");
  grad = torch::stable::contiguous(grad);
  Tensor out = new_output(velocity, sizes_of(velocity));
  if (velocity.numel() == 0) return out;
  p.grad = grad.const_data_ptr();
  p.out = out.mutable_data_ptr();
  if (levels.numel() > 0) {
    check_shape(levels, "levels", {p.batch, steps, p.grid.voxels(), 4});
    check_same_dtype(velocity, "velocity", levels, "levels");
    check_same_device(velocity, "velocity", levels, "levels");
    levels = torch::stable::contiguous(levels);
    p.levels = levels.mutable_data_ptr();
  }
#ifdef MEDSYNTH_WITH_CUDA
  if (on_cuda(velocity)) {
    const CudaScope scope(velocity.get_device());
    Tensor scratch = bytes_like(velocity, integrate_svf_backward_scratch_bytes(p));
    p.scratch = scratch.mutable_data_ptr();
    integrate_svf_backward_cuda(p, scope.stream);
    return out;
  }
#endif
  integrate_svf_backward_cpu(p);
  return out;
}

}  // namespace
}  // namespace medsynth::doors

#define MEDSYNTH_REGISTER(key)                                                             \
  STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, key, m) {                                        \
    m.impl("integrate_svf", TORCH_BOX(&medsynth::doors::integrate_svf));                   \
    m.impl("integrate_svf_out", TORCH_BOX(&medsynth::doors::integrate_svf_out));           \
    m.impl("integrate_svf_saving", TORCH_BOX(&medsynth::doors::integrate_svf_saving));     \
    m.impl("integrate_svf_backward", TORCH_BOX(&medsynth::doors::integrate_svf_backward)); \
  }
MEDSYNTH_REGISTER(CPU)
#ifdef MEDSYNTH_WITH_CUDA
MEDSYNTH_REGISTER(CUDA)
#endif
