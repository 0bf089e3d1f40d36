#include "projection.h"

#include <torch/csrc/stable/library.h>

#include "../common/check.h"
#include "../common/cuda_stream.h"

namespace medsynth {
namespace {

struct Scan {
  Tensor vectors;                             // (views, 12) float64: s or r, d, u, v
  std::vector<int64_t> vol_shape, det_shape;  // (Z, Y, X), (rows, cols)
  std::vector<double> spacing, center;        // mm, x y z
  bool diverging, flat, siddon;
};

void check_sizes(const char* name, const std::vector<int64_t>& sizes, size_t count) {
  STD_TORCH_CHECK(sizes.size() == count, name, " must have ", count, " entries, got ", sizes.size());
  for (int64_t n : sizes) STD_TORCH_CHECK(n >= 1 && n < (int64_t{1} << 24), name, " holds ", n);
}

// Runs A (in: volume) or its transpose (in: projections).
void run(Tensor in, Scan scan, bool adjoint, Tensor& out) {
  ProjectionParams p{};
  const char* name = adjoint ? "proj" : "vol";
  p.dtype = float_dtype(in, name);
  check_same_dtype(in, name, out, "out");
  check_sizes("vol_shape", scan.vol_shape, 3);
  check_sizes("det_shape", scan.det_shape, 2);
  STD_TORCH_CHECK(scan.spacing.size() == 3 && scan.center.size() == 3, "spacing and center must have 3 entries");
  for (double s : scan.spacing) STD_TORCH_CHECK(s > 0, "spacing must be positive");
  STD_TORCH_CHECK(scan.vectors.scalar_type() == ScalarType::Double, "vectors must be float64");
  p.views = scan.vectors.dim() == 2 ? scan.vectors.size(0) : 0;
  STD_TORCH_CHECK(p.views >= 1, "vectors must be (views, 12) with at least one view, got ", shape_of(scan.vectors));
  check_shape(scan.vectors, "vectors", {p.views, 12});
  p.batch = in.dim() == 0 ? 0 : in.size(0);
  p.rows = scan.det_shape[0];
  p.cols = scan.det_shape[1];
  STD_TORCH_CHECK(!scan.flat || (p.rows == 1 && scan.vol_shape[0] == 1), "a flat scan has one row and one slice");
  const std::vector<int64_t> vol{p.batch, scan.vol_shape[0], scan.vol_shape[1], scan.vol_shape[2]};
  const std::vector<int64_t> proj{p.batch, p.views, p.rows, p.cols};
  check_shape(in, name, adjoint ? proj : vol);
  check_out(out, adjoint ? vol : proj, in);
  if (out.numel() == 0) return;
  in = torch::stable::contiguous(in);
  p.in = in.const_data_ptr();
  p.out = out.mutable_data_ptr();
  STD_TORCH_CHECK(p.in != p.out, "out must not be the input");
  for (int d = 0; d < 3; ++d) {
    p.size[d] = scan.vol_shape[2 - d];
    p.spacing[d] = scan.spacing[d];
    p.center[d] = scan.center[d];
  }
  p.diverging = scan.diverging;
  p.flat = scan.flat;
  p.siddon = scan.siddon;
  Tensor vectors = torch::stable::contiguous(scan.vectors);
#ifdef MEDSYNTH_WITH_CUDA
  if (on_cuda(in)) {
    const CudaScope scope(in.get_device());
    if (!vectors.is_cuda()) vectors = torch::stable::to(vectors, in.device());
    check_same_device(in, name, vectors, "vectors");
    p.vectors = vectors.const_data_ptr<double>();
    adjoint ? ct_adjoint_cuda(p, scope.stream) : ct_forward_cuda(p, scope.stream);
    return;
  }
#endif
  STD_TORCH_CHECK(!vectors.is_cuda(), "vectors must be on the CPU");
  p.vectors = vectors.const_data_ptr<double>();
  adjoint ? ct_adjoint_cpu(p) : ct_forward_cpu(p);
}

Tensor ct_forward(Tensor vol, Tensor vectors, std::vector<int64_t> det_shape, std::vector<double> spacing,
                  std::vector<double> center, bool diverging, bool flat, bool siddon) {
  STD_TORCH_CHECK(vol.dim() == 4, "vol must be (N, Z, Y, X), got ", shape_of(vol));
  STD_TORCH_CHECK(det_shape.size() == 2 && vectors.dim() == 2, "det_shape must be (rows, cols), vectors (views, 12)");
  Tensor out = torch::stable::new_empty(vol, {vol.size(0), vectors.size(0), det_shape[0], det_shape[1]});
  run(vol, {vectors, {vol.size(1), vol.size(2), vol.size(3)}, det_shape, spacing, center, diverging, flat, siddon},
      false, out);
  return out;
}

void ct_forward_out(Tensor vol, Tensor vectors, std::vector<int64_t> det_shape, std::vector<double> spacing,
                    std::vector<double> center, bool diverging, bool flat, bool siddon, Tensor out) {
  STD_TORCH_CHECK(vol.dim() == 4, "vol must be (N, Z, Y, X), got ", shape_of(vol));
  run(vol, {vectors, {vol.size(1), vol.size(2), vol.size(3)}, det_shape, spacing, center, diverging, flat, siddon},
      false, out);
}

Tensor ct_adjoint(Tensor proj, Tensor vectors, std::vector<int64_t> vol_shape, std::vector<double> spacing,
                  std::vector<double> center, bool diverging, bool flat, bool siddon) {
  STD_TORCH_CHECK(proj.dim() == 4, "proj must be (N, views, rows, cols), got ", shape_of(proj));
  STD_TORCH_CHECK(vol_shape.size() == 3, "vol_shape must be (Z, Y, X)");
  Tensor out = torch::stable::new_empty(proj, {proj.size(0), vol_shape[0], vol_shape[1], vol_shape[2]});
  run(proj, {vectors, vol_shape, {proj.size(2), proj.size(3)}, spacing, center, diverging, flat, siddon}, true, out);
  return out;
}

void ct_adjoint_out(Tensor proj, Tensor vectors, std::vector<int64_t> vol_shape, std::vector<double> spacing,
                    std::vector<double> center, bool diverging, bool flat, bool siddon, Tensor out) {
  STD_TORCH_CHECK(proj.dim() == 4, "proj must be (N, views, rows, cols), got ", shape_of(proj));
  run(proj, {vectors, vol_shape, {proj.size(2), proj.size(3)}, spacing, center, diverging, flat, siddon}, true, out);
}

}  // namespace
}  // namespace medsynth

#define MEDSYNTH_PROJECTION_KERNELS(m)                            \
  m.impl("ct_adjoint", TORCH_BOX(&medsynth::ct_adjoint));         \
  m.impl("ct_adjoint_out", TORCH_BOX(&medsynth::ct_adjoint_out)); \
  m.impl("ct_forward", TORCH_BOX(&medsynth::ct_forward));         \
  m.impl("ct_forward_out", TORCH_BOX(&medsynth::ct_forward_out))

STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, CPU, m) { MEDSYNTH_PROJECTION_KERNELS(m); }
#ifdef MEDSYNTH_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, CUDA, m) { MEDSYNTH_PROJECTION_KERNELS(m); }
#endif
