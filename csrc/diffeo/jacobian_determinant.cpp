#include "jacobian_determinant.h"

#include <torch/csrc/stable/library.h>

#include "field_checks.h"

namespace medsynth::doors {
namespace {

JacobianParams params(const Tensor& displacement) {
  field_grid(displacement, "displacement");
  const Spatial s = spatial_of(displacement, 2, "displacement");
  JacobianParams p{};
  p.displacement = displacement.const_data_ptr();
  p.dtype = float_dtype(displacement, "displacement");
  p.batch = displacement.size(0);
  for (int d = 0; d < 3; ++d) p.n[d] = s.n[d];
  p.dims = s.dims;
  return p;
}

std::vector<int64_t> result_shape(const Tensor& displacement) {
  std::vector<int64_t> shape = sizes_of(displacement);
  shape[1] = 1;
  return shape;
}

void forward([[maybe_unused]] const Tensor& displacement, JacobianParams& p, Tensor& out) {
  p.out = out.mutable_data_ptr();
  if (out.numel() == 0) return;
#ifdef MEDSYNTH_WITH_CUDA
  if (on_cuda(displacement)) {
    const CudaScope scope(displacement.get_device());
    return jacobian_determinant_cuda(p, scope.stream);
  }
#endif
  jacobian_determinant_cpu(p);
}

Tensor jacobian_determinant(Tensor displacement) {
  displacement = torch::stable::contiguous(displacement);
  JacobianParams p = params(displacement);
  Tensor out = torch::stable::new_empty(displacement, result_shape(displacement));
  forward(displacement, p, out);
  return out;
}

void jacobian_determinant_out(Tensor displacement, Tensor out) {
  displacement = torch::stable::contiguous(displacement);
  JacobianParams p = params(displacement);
  check_out(out, result_shape(displacement), displacement);
  check_same_dtype(displacement, "displacement", out, "out");
  forward(displacement, p, out);
}

Tensor jacobian_determinant_backward(Tensor grad, Tensor displacement) {
  displacement = torch::stable::contiguous(displacement);
  grad = torch::stable::contiguous(grad);
  JacobianParams p = params(displacement);
  check_shape(grad, "grad", result_shape(displacement));
  check_same_dtype(displacement, "displacement", grad, "grad");
  check_same_device(displacement, "displacement", grad, "grad");
  Tensor out = torch::stable::empty_like(displacement);
  if (out.numel() == 0) return out;
  p.grad = grad.const_data_ptr();
  p.out = out.mutable_data_ptr();
#ifdef MEDSYNTH_WITH_CUDA
  if (on_cuda(displacement)) {
    const CudaScope scope(displacement.get_device());
    Tensor scratch = bytes_like(displacement, displacement.numel() * p.dims * size_of(p.dtype));
    p.scratch = scratch.mutable_data_ptr();
    jacobian_determinant_backward_cuda(p, scope.stream);
    return out;
  }
#endif
  jacobian_determinant_backward_cpu(p);
  return out;
}

}  // namespace
}  // namespace medsynth::doors

#define MEDSYNTH_REGISTER(key)                                                                           \
  STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, key, m) {                                                      \
    m.impl("jacobian_determinant", TORCH_BOX(&medsynth::doors::jacobian_determinant));                   \
    m.impl("jacobian_determinant_out", TORCH_BOX(&medsynth::doors::jacobian_determinant_out));           \
    m.impl("jacobian_determinant_backward", TORCH_BOX(&medsynth::doors::jacobian_determinant_backward)); \
  }
MEDSYNTH_REGISTER(CPU)
#ifdef MEDSYNTH_WITH_CUDA
MEDSYNTH_REGISTER(CUDA)
#endif
