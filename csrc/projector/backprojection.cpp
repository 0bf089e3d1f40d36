#include "backprojection.h"

#include <torch/csrc/stable/library.h>

#include "../common/check.h"
#include "../common/cuda_stream.h"

namespace medsynth {
namespace {

// `shape` is that of the result's spatial part: (Z, Y, X), or (rows, cols) of the transpose.
void run(Tensor in, Tensor matrices, Tensor scale, std::vector<int64_t> shape, bool weighted, bool transposed,
         Tensor& out) {
  BackprojectionParams p{};
  const char* name = transposed ? "vol" : "proj";
  p.dtype = float_dtype(in, name);
  check_same_dtype(in, name, out, "out");
  STD_TORCH_CHECK(in.dim() == 4, name, " must have four axes, got ", shape_of(in));
  STD_TORCH_CHECK(matrices.scalar_type() == ScalarType::Double && scale.scalar_type() == ScalarType::Double,
                  "matrices and scale must be float64");
  p.views = matrices.dim() == 3 ? matrices.size(0) : 0;
  STD_TORCH_CHECK(p.views >= 1, "matrices must be (views, 3, 4) with at least one view, got ", shape_of(matrices));
  check_shape(matrices, "matrices", {p.views, 3, 4});
  check_shape(scale, "scale", {p.views});
  STD_TORCH_CHECK(shape.size() == (transposed ? 2u : 3u), "the result's shape has ", shape.size(), " entries");
  p.batch = in.size(0);
  std::vector<int64_t> vol(3), det(2);
  for (int d = 0; d < 3; ++d) vol[d] = transposed ? in.size(d + 1) : shape[d];
  for (int d = 0; d < 2; ++d) det[d] = transposed ? shape[d] : in.size(d + 2);
  for (int64_t n : {vol[0], vol[1], vol[2], det[0], det[1]}) {
    STD_TORCH_CHECK(n >= 1 && n < (int64_t{1} << 24), "a size is ", n);
  }
  const std::vector<int64_t> vols{p.batch, vol[0], vol[1], vol[2]}, projs{p.batch, p.views, det[0], det[1]};
  check_shape(in, name, transposed ? vols : projs);
  check_out(out, transposed ? projs : vols, in);
  if (out.numel() == 0) return;
  in = torch::stable::contiguous(in);
  p.in = in.const_data_ptr();
  p.out = out.mutable_data_ptr();
  STD_TORCH_CHECK(p.in != p.out, "out must not be the input");
  p.weighted = weighted;
  p.rows = det[0];
  p.cols = det[1];
  for (int d = 0; d < 3; ++d) p.size[d] = vol[2 - d];
  matrices = torch::stable::contiguous(matrices);
  scale = torch::stable::contiguous(scale);
#ifdef MEDSYNTH_WITH_CUDA
  if (on_cuda(in)) {
    const CudaScope scope(in.get_device());
    if (!matrices.is_cuda()) matrices = torch::stable::to(matrices, in.device());
    if (!scale.is_cuda()) scale = torch::stable::to(scale, in.device());
    check_same_device(in, name, matrices, "matrices");
    check_same_device(in, name, scale, "scale");
    p.matrices = matrices.const_data_ptr<double>();
    p.scale = scale.const_data_ptr<double>();
    if (!transposed) {
      ct_backproject_cuda(p, scope.stream);
      return;
    }
    Tensor sums = torch::stable::new_zeros(in, {p.batch * (p.views * p.pixels() + 1)}, ScalarType::Long);
    p.sums = sums.mutable_data_ptr<int64_t>();
    ct_backproject_transposed_cuda(p, scope.stream);
    return;
  }
#endif
  STD_TORCH_CHECK(!matrices.is_cuda() && !scale.is_cuda(), "matrices and scale must be on the CPU");
  p.matrices = matrices.const_data_ptr<double>();
  p.scale = scale.const_data_ptr<double>();
  transposed ? ct_backproject_transposed_cpu(p) : ct_backproject_cpu(p);
}

Tensor ct_backproject(Tensor proj, Tensor matrices, Tensor scale, std::vector<int64_t> vol_shape, bool weighted) {
  STD_TORCH_CHECK(proj.dim() == 4, "proj must be (N, views, rows, cols), got ", shape_of(proj));
  STD_TORCH_CHECK(vol_shape.size() == 3, "vol_shape must be (Z, Y, X)");
  Tensor out = torch::stable::new_empty(proj, {proj.size(0), vol_shape[0], vol_shape[1], vol_shape[2]});
  run(proj, matrices, scale, vol_shape, weighted, false, out);
  return out;
}

void ct_backproject_out(Tensor proj, Tensor matrices, Tensor scale, std::vector<int64_t> vol_shape, bool weighted,
                        Tensor out) {
  run(proj, matrices, scale, vol_shape, weighted, false, out);
}

Tensor ct_backproject_transposed(Tensor vol, Tensor matrices, Tensor scale, std::vector<int64_t> det_shape,
                                 bool weighted) {
  STD_TORCH_CHECK(vol.dim() == 4, "vol must be (N, Z, Y, X), got ", shape_of(vol));
  STD_TORCH_CHECK(det_shape.size() == 2 && matrices.dim() == 3, "det_shape must be (rows, cols)");
  Tensor out = torch::stable::new_empty(vol, {vol.size(0), matrices.size(0), det_shape[0], det_shape[1]});
  run(vol, matrices, scale, det_shape, weighted, true, out);
  return out;
}

}  // namespace
}  // namespace medsynth

#define MEDSYNTH_BACKPROJECTION_KERNELS(m)                                \
  m.impl("ct_backproject", TORCH_BOX(&medsynth::ct_backproject));         \
  m.impl("ct_backproject_out", TORCH_BOX(&medsynth::ct_backproject_out)); \
  m.impl("ct_backproject_transposed", TORCH_BOX(&medsynth::ct_backproject_transposed))

STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, CPU, m) { MEDSYNTH_BACKPROJECTION_KERNELS(m); }
#ifdef MEDSYNTH_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, CUDA, m) { MEDSYNTH_BACKPROJECTION_KERNELS(m); }
#endif
