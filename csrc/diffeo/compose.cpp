#include "compose.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "field_checks.h"

namespace medsynth::doors {
namespace {

// Checks and the batch; u1 and u2 must be contiguous.
ComposeParams params(const Tensor& u1, const Tensor& u2, int64_t border) {
  ComposeParams p{};
  p.grid = field_grid(u2, "u2");
  std::vector<int64_t> want = sizes_of(u2);
  STD_TORCH_CHECK(u1.dim() == u2.dim(), "u1 must have as many axes as u2, got ", shape_of(u1), " and ", shape_of(u2));
  want[0] = u1.size(0);
  check_shape(u1, "u1", want);
  STD_TORCH_CHECK(u1.size(0) == u2.size(0) || u1.size(0) == 1 || u2.size(0) == 1,
                  "u1 and u2 must have the same batch, "
                  "or one of them a batch of 1, got ",
                  u1.size(0), " and ", u2.size(0));
  check_same_dtype(u2, "u2", u1, "u1");
  check_same_device(u2, "u2", u1, "u1");
  const int64_t sample = p.grid.dims * p.grid.voxels();
  p.u1 = u1.const_data_ptr();
  p.u2 = u2.const_data_ptr();
  p.dtype = float_dtype(u2, "u2");
  p.border = border_of(border);
  p.batch = u1.size(0) == 1 ? u2.size(0) : u1.size(0);
  p.stride1 = u1.size(0) == p.batch ? sample : 0;
  p.stride2 = u2.size(0) == p.batch ? sample : 0;
  return p;
}

std::vector<int64_t> result_shape(const ComposeParams& p, const Tensor& u2) {
  std::vector<int64_t> shape = sizes_of(u2);
  shape[0] = p.batch;
  return shape;
}

void forward([[maybe_unused]] const Tensor& u2, ComposeParams& p, Tensor& out) {
  p.out = out.mutable_data_ptr();
  if (out.numel() == 0) return;
#ifdef MEDSYNTH_WITH_CUDA
  if (on_cuda(u2)) {
    const CudaScope scope(u2.get_device());
    Tensor scratch = bytes_like(u2, compose_scratch_bytes(p));
    p.scratch = scratch.mutable_data_ptr();
    return compose_cuda(p, scope.stream);
  }
#endif
  compose_cpu(p);
}

Tensor compose(Tensor u1, Tensor u2, int64_t border) {
  u1 = torch::stable::contiguous(u1);
  u2 = torch::stable::contiguous(u2);
  ComposeParams p = params(u1, u2, border);
  Tensor out = new_output(u2, result_shape(p, u2));
  forward(u2, p, out);
  return out;
}

void compose_out(Tensor u1, Tensor u2, int64_t border, Tensor out) {
  u1 = torch::stable::contiguous(u1);
  u2 = torch::stable::contiguous(u2);
  ComposeParams p = params(u1, u2, border);
  check_out(out, result_shape(p, u2), u2);
  check_same_dtype(u2, "u2", out, "out");
  forward(u2, p, out);
}

// Gradients to u1 and u2, both with the whole batch.
std::tuple<Tensor, Tensor> compose_backward(Tensor grad, Tensor u1, Tensor u2, int64_t border) {
  u1 = torch::stable::contiguous(u1);
  u2 = torch::stable::contiguous(u2);
  grad = torch::stable::contiguous(grad);
  ComposeParams p = params(u1, u2, border);
  check_shape(grad, "grad", result_shape(p, u2));
  check_same_dtype(u2, "u2", grad, "grad");
  check_same_device(u2, "u2", grad, "grad");
  Tensor grad_u1 = torch::stable::empty_like(grad), grad_u2 = torch::stable::empty_like(grad);
  if (grad.numel() == 0) return {grad_u1, grad_u2};
  p.grad = grad.const_data_ptr();
  p.grad_u1 = grad_u1.mutable_data_ptr();
  p.grad_u2 = grad_u2.mutable_data_ptr();
#ifdef MEDSYNTH_WITH_CUDA
  if (on_cuda(grad)) {
    const CudaScope scope(grad.get_device());
    Tensor scratch = bytes_like(grad, compose_backward_scratch_bytes(p));
    p.scratch = scratch.mutable_data_ptr();
    compose_backward_cuda(p, scope.stream);
    return {grad_u1, grad_u2};
  }
#endif
  compose_backward_cpu(p);
  return {grad_u1, grad_u2};
}

}  // namespace
}  // namespace medsynth::doors

#define MEDSYNTH_REGISTER(key)                                                 \
  STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, key, m) {                            \
    m.impl("compose", TORCH_BOX(&medsynth::doors::compose));                   \
    m.impl("compose_out", TORCH_BOX(&medsynth::doors::compose_out));           \
    m.impl("compose_backward", TORCH_BOX(&medsynth::doors::compose_backward)); \
  }
MEDSYNTH_REGISTER(CPU)
#ifdef MEDSYNTH_WITH_CUDA
MEDSYNTH_REGISTER(CUDA)
#endif
