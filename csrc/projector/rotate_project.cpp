#include "rotate_project.h"

#include <torch/csrc/stable/library.h>

#include "../common/check.h"
#include "../common/cuda_stream.h"

namespace medsynth {
namespace {

// Runs A (in: images) or its transpose (in: projections) into out.
void run(Tensor in, bool adjoint, const Tensor& out) {
  if (out.numel() == 0) return;
  in = torch::stable::contiguous(in);
  RotateParams p{};
  p.dtype = float_dtype(in, adjoint ? "proj" : "image");
  p.in = in.const_data_ptr();
  p.out = out.mutable_data_ptr();
  const Tensor& proj = adjoint ? in : out;
  p.batch = proj.size(0);
  p.views = proj.size(1);
  p.size = proj.size(2);
  STD_TORCH_CHECK(p.size < (int64_t{1} << 14), "images must be smaller than 16384 pixels, got ", p.size);
#ifdef MEDSYNTH_WITH_CUDA
  if (on_cuda(in)) {
    const CudaScope scope(in.get_device());
    adjoint ? rotate_project_adjoint_cuda(p, scope.stream) : rotate_project_cuda(p, scope.stream);
    return;
  }
#endif
  adjoint ? rotate_project_adjoint_cpu(p) : rotate_project_cpu(p);
}

Tensor rotate_project(Tensor image, int64_t views) {
  STD_TORCH_CHECK(image.dim() == 3 && image.size(1) == image.size(2), "image must be (N, S, S), got ", shape_of(image));
  STD_TORCH_CHECK(views >= 1 && views < (int64_t{1} << 24), "views must be at least 1, got ", views);
  float_dtype(image, "image");
  Tensor out = torch::stable::new_empty(image, {image.size(0), views, image.size(1)});
  run(image, false, out);
  return out;
}

Tensor rotate_project_adjoint(Tensor proj) {
  STD_TORCH_CHECK(proj.dim() == 3 && proj.size(1) >= 1, "proj must be (N, views, S), got ", shape_of(proj));
  float_dtype(proj, "proj");
  Tensor out = torch::stable::new_empty(proj, {proj.size(0), proj.size(2), proj.size(2)});
  run(proj, true, out);
  return out;
}

}  // namespace
}  // namespace medsynth

#define MEDSYNTH_ROTATE_KERNELS(m)                                \
  m.impl("rotate_project", TORCH_BOX(&medsynth::rotate_project)); \
  m.impl("rotate_project_adjoint", TORCH_BOX(&medsynth::rotate_project_adjoint))

STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, CPU, m) { MEDSYNTH_ROTATE_KERNELS(m); }
#ifdef MEDSYNTH_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, CUDA, m) { MEDSYNTH_ROTATE_KERNELS(m); }
#endif
