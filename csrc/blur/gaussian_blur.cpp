#include "gaussian_blur.h"

#include <torch/csrc/stable/library.h>

#include "../common/check.h"
#include "../common/cuda_stream.h"

namespace medsynth {
namespace {

void run(Tensor x, Tensor sigma, double truncate, int64_t border, bool transposed, Tensor& out) {
  GaussianBlurParams p{};
  p.dtype = float_dtype(x, "x");
  const Spatial s = spatial_of(x, 2, "x");
  check_same_dtype(x, "x", out, "out");
  check_same_device(x, "x", sigma, "sigma");
  STD_TORCH_CHECK(sigma.scalar_type() == ScalarType::Double, "sigma must be float64");
  check_shape(sigma, "sigma", {x.size(0), s.dims});
  STD_TORCH_CHECK(border >= 0 && border <= 2, "border must be 0 (replicate), 1 (zeros) or 2 (reflect), got ", border);
  STD_TORCH_CHECK(truncate > 0, "truncate must be positive");
  std::vector<int64_t> shape;
  for (int64_t d = 0; d < x.dim(); ++d) shape.push_back(x.size(d));
  check_out(out, shape, x);
  if (x.numel() == 0) return;
  x = torch::stable::contiguous(x);
  sigma = torch::stable::contiguous(sigma);
  p.x = x.const_data_ptr();
  p.out = out.mutable_data_ptr();
  STD_TORCH_CHECK(p.x != p.out, "out must not be x itself");
  p.sigma = sigma.const_data_ptr<double>();
  p.batch = x.size(0);
  p.channels = x.size(1);
  p.axes = s.dims;
  for (int d = 0; d < 3; ++d) p.n[d] = s.n[d];
  p.truncate = truncate;
  p.border = static_cast<BlurBorder>(border);
  p.transposed = transposed;
#ifdef MEDSYNTH_WITH_CUDA
  if (on_cuda(x)) {
    const CudaScope scope(x.get_device());
    std::optional<Tensor> scratch[2];
    for (int i = 0; i < s.dims - 1; ++i) {
      scratch[i] = torch::stable::empty_like(x);
      p.scratch[i] = scratch[i]->mutable_data_ptr();
    }
    gaussian_blur_cuda(p, scope.stream);
    return;
  }
#endif
  gaussian_blur_cpu(p);
}

Tensor gaussian_blur(Tensor x, Tensor sigma, double truncate, int64_t border, bool transposed) {
  Tensor out = torch::stable::new_empty(x, x.sizes());
  run(x, sigma, truncate, border, transposed, out);
  return out;
}

void gaussian_blur_out(Tensor x, Tensor sigma, double truncate, int64_t border, bool transposed, Tensor out) {
  run(x, sigma, truncate, border, transposed, out);
}

}  // namespace
}  // namespace medsynth

STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, CPU, m) {
  m.impl("gaussian_blur", TORCH_BOX(&medsynth::gaussian_blur));
  m.impl("gaussian_blur_out", TORCH_BOX(&medsynth::gaussian_blur_out));
}
#ifdef MEDSYNTH_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, CUDA, m) {
  m.impl("gaussian_blur", TORCH_BOX(&medsynth::gaussian_blur));
  m.impl("gaussian_blur_out", TORCH_BOX(&medsynth::gaussian_blur_out));
}
#endif
