#include "ortho_slice_product.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "../common/check.h"
#include "../common/cuda_stream.h"

namespace medsynth {
namespace {

// Checks the three stacks, makes them contiguous, and fills in what forward and backward share.
OrthoSliceProductParams params(Tensor& z, Tensor& y, Tensor& x, bool log) {
  OrthoSliceProductParams p{};
  p.dtype = float_dtype(x, "x");
  STD_TORCH_CHECK(x.dim() == 4, "x must be (B, I, J, K), got ", shape_of(x));
  p.batch = x.size(0);
  for (int d = 0; d < 3; ++d) p.n[d] = x.size(1 + d);
  check_shape(z, "z", {p.batch, p.n[2], p.n[0], p.n[1]});
  check_shape(y, "y", {p.batch, p.n[1], p.n[2], p.n[0]});
  check_same_dtype(x, "x", z, "z");
  check_same_dtype(x, "x", y, "y");
  check_same_device(x, "x", z, "z");
  check_same_device(x, "x", y, "y");
  z = torch::stable::contiguous(z);
  y = torch::stable::contiguous(y);
  x = torch::stable::contiguous(x);
  p.z = z.const_data_ptr();
  p.y = y.const_data_ptr();
  p.x = x.const_data_ptr();
  p.log = log;
  return p;
}

std::vector<int64_t> sizes_of(const Tensor& t) { return {t.sizes().begin(), t.sizes().end()}; }

void run(Tensor z, Tensor y, Tensor x, bool log, Tensor& out) {
  OrthoSliceProductParams p = params(z, y, x, log);
  check_same_dtype(x, "x", out, "out");
  check_out(out, sizes_of(x), x);
  if (x.numel() == 0) return;
  p.out = out.mutable_data_ptr();
  STD_TORCH_CHECK(p.out != p.z && p.out != p.y, "out must not be z or y itself");
#ifdef MEDSYNTH_WITH_CUDA
  if (on_cuda(x)) {
    const CudaScope scope(x.get_device());
    ortho_slice_product_cuda(p, scope.stream);
    return;
  }
#endif
  ortho_slice_product_cpu(p);
}

Tensor ortho_slice_product(Tensor z, Tensor y, Tensor x, bool log) {
  Tensor out = new_output(x, sizes_of(x));
  run(z, y, x, log, out);
  return out;
}

void ortho_slice_product_out(Tensor z, Tensor y, Tensor x, bool log, Tensor out) { run(z, y, x, log, out); }

std::tuple<Tensor, Tensor, Tensor> ortho_slice_product_backward(Tensor grad, Tensor z, Tensor y, Tensor x, bool log) {
  OrthoSliceProductParams p = params(z, y, x, log);
  check_shape(grad, "grad", sizes_of(x));
  check_same_dtype(x, "x", grad, "grad");
  check_same_device(x, "x", grad, "grad");
  grad = torch::stable::contiguous(grad);
  Tensor to_z = new_output(z, sizes_of(z)), to_y = new_output(y, sizes_of(y)), to_x = new_output(x, sizes_of(x));
  if (x.numel() == 0) return {to_z, to_y, to_x};
  p.grad = grad.const_data_ptr();
  p.grad_z = to_z.mutable_data_ptr();
  p.grad_y = to_y.mutable_data_ptr();
  p.grad_x = to_x.mutable_data_ptr();
#ifdef MEDSYNTH_WITH_CUDA
  if (on_cuda(x)) {
    const CudaScope scope(x.get_device());
    ortho_slice_product_backward_cuda(p, scope.stream);
    return {to_z, to_y, to_x};
  }
#endif
  ortho_slice_product_backward_cpu(p);
  return {to_z, to_y, to_x};
}

}  // namespace
}  // namespace medsynth

#define MEDSYNTH_REGISTER(key)                                                                  \
  STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, key, m) {                                             \
    m.impl("ortho_slice_product", TORCH_BOX(&medsynth::ortho_slice_product));                   \
    m.impl("ortho_slice_product_backward", TORCH_BOX(&medsynth::ortho_slice_product_backward)); \
    m.impl("ortho_slice_product_out", TORCH_BOX(&medsynth::ortho_slice_product_out));           \
  }
MEDSYNTH_REGISTER(CPU)
#ifdef MEDSYNTH_WITH_CUDA
MEDSYNTH_REGISTER(CUDA)
#endif
