// What the doors of warp, warp_labels and affine_svf_warp share: checks, and the parameters of the common kernel.
#pragma once
#include <algorithm>
#include <optional>
#include <tuple>

#include "../common/check.h"
#include "../common/cuda_stream.h"
#include "warp.h"

namespace medsynth {

// Everything that a call names; empty vectors stand for the defaults.
struct WarpCall {
  Tensor src;                    // (B or 1, C, *S)
  std::optional<Tensor> matrix;  // (B or 1, D, D + 1)
  std::optional<Tensor> disp;    // (B or 1, D, *Sd)
  std::vector<int64_t> out_shape, out_origin, grid_shape;
  int64_t rule, mode, border;
  double fill;
  int64_t label_fill;
};

inline ScalarType real_dtype(const WarpCall& c) {
  if (is_float(c.src) && c.mode == static_cast<int64_t>(WarpMode::linear)) return c.src.scalar_type();
  return c.disp ? c.disp->scalar_type() : c.matrix ? c.matrix->scalar_type() : ScalarType::Float;
}

inline int64_t warp_batch(const WarpCall& c) {
  int64_t batch = c.src.size(0);
  for (const auto& t : {c.matrix, c.disp}) {
    if (!t || t->size(0) == batch) continue;
    STD_TORCH_CHECK(batch == 1 || t->size(0) == 1, "the batch sizes do not agree: ", batch, " and ", t->size(0));
    batch = batch == 1 ? t->size(0) : batch;
  }
  return batch;
}

inline std::vector<int64_t> warp_out_shape(const WarpCall& c) {
  std::vector<int64_t> shape{warp_batch(c), c.src.size(1)};
  shape.insert(shape.end(), c.out_shape.begin(), c.out_shape.end());
  return shape;
}

inline void check_axes(const char* name, const std::vector<int64_t>& v, int dims, int64_t least) {
  if (v.empty()) return;
  STD_TORCH_CHECK(static_cast<int>(v.size()) == dims, name, " must have ", dims, " entries, got ", v.size());
  for (int64_t n : v) STD_TORCH_CHECK(n >= least && n < (int64_t{1} << 40), name, " holds ", n);
}

inline void check_warp(const WarpCall& c, int dims) {
  STD_TORCH_CHECK(c.mode >= 0 && c.mode <= 2 && c.border >= 0 && c.border <= 2 && c.rule >= 0 && c.rule <= 3,
                  "mode, border or rule is out of range");
  STD_TORCH_CHECK(c.mode != static_cast<int64_t>(WarpMode::linear) || is_float(c.src),
                  "linear mode needs a float image");
  STD_TORCH_CHECK(c.mode != static_cast<int64_t>(WarpMode::vote) || !is_float(c.src), "vote mode needs labels");
  STD_TORCH_CHECK(!c.out_shape.empty(), "out_shape must be given");
  check_axes("out_shape", c.out_shape, dims, 1);
  check_axes("out_origin", c.out_origin, dims, -(int64_t{1} << 40));
  check_axes("grid_shape", c.grid_shape, dims, 1);
  if (c.matrix) {
    float_dtype(*c.matrix, "matrix");
    check_shape(*c.matrix, "matrix", {c.matrix->size(0), dims, dims + 1});
    check_same_device(c.src, "the source", *c.matrix, "matrix");
  }
  if (!c.disp) return;
  float_dtype(*c.disp, "disp");
  STD_TORCH_CHECK(c.disp->dim() == dims + 2 && c.disp->size(1) == dims, "disp must be (B, ", dims, ", *spatial), got ",
                  shape_of(*c.disp));
  check_same_device(c.src, "the source", *c.disp, "disp");
  const bool linear = c.mode == static_cast<int64_t>(WarpMode::linear);
  STD_TORCH_CHECK(!linear || c.disp->scalar_type() == c.src.scalar_type(), "disp must have the dtype of the image");
}

inline void set_displacement(WarpParams& p, const WarpCall& c, const Spatial& grid) {
  const int first = 3 - grid.dims;
  const Spatial size = spatial_of(*c.disp, 2, "disp");
  p.disp = c.disp->const_data_ptr();
  p.disp_rule = static_cast<ResizeRule>(c.rule);
  p.disp_stride = c.disp->size(0) == 1 ? 0 : grid.dims * size.voxels();
  for (int d = 0; d < 3; ++d) {
    const int64_t origin = d < first || c.grid_shape.empty() || c.out_origin.empty() ? 0 : c.out_origin[d - first];
    const int64_t full = d < first ? 1 : c.grid_shape.empty() ? p.out_size[d] : c.grid_shape[d - first];
    p.disp_size[d] = size.n[d];
    p.disp_origin[d] = origin;
    p.disp_scale[d] = 1.0;
    STD_TORCH_CHECK(size.n[d] >= 1, "disp must not be empty, got ", shape_of(*c.disp));
    if (p.disp_rule == ResizeRule::same) {
      STD_TORCH_CHECK(size.n[d] == full, "disp has ", size.n[d], " voxels on an axis where its grid has ", full);
      STD_TORCH_CHECK(origin >= 0 && origin + p.out_size[d] <= full, "the window leaves the grid that disp spans");
      continue;
    }
    const double in = static_cast<double>(size.n[d]), out = static_cast<double>(full);
    p.disp_scale[d] = p.disp_rule == ResizeRule::align_corners ? (full > 1 ? (in - 1) / (out - 1) : 0.0) : in / out;
    p.disp_offset[d] = p.disp_rule == ResizeRule::half_pixel ? 0.5 * p.disp_scale[d] - 0.5 : 0.0;
  }
}

// Checks a call, makes its tensors contiguous (matrix float64, disp of the arithmetic's type) and fills the parameters.
inline WarpParams prepare_warp(WarpCall& c) {
  STD_TORCH_CHECK(c.src.dim() >= 3 && c.src.dim() <= 5, "the source must be (B, C, *spatial), got ", shape_of(c.src));
  const Spatial src = spatial_of(c.src, 2, "the source");
  check_warp(c, src.dims);
  WarpParams p{};
  p.src_type = is_float(c.src) ? float_dtype(c.src, "the source") : label_dtype(c.src, "the source");
  const ScalarType real = real_dtype(c);
  p.real = real == ScalarType::Double ? DType::f64 : DType::f32;
  p.mode = static_cast<WarpMode>(c.mode);
  p.border = static_cast<Border>(c.border);
  p.fill = c.fill;
  p.label_fill = c.label_fill;
  p.dims = src.dims;
  p.batch = warp_batch(c);
  p.channels = c.src.size(1);
  p.src_stride = c.src.size(0) == 1 ? 0 : p.channels * src.voxels();
  c.src = torch::stable::contiguous(c.src);
  p.src = c.src.const_data_ptr();
  for (int d = 0; d < 3; ++d) {
    const int first = 3 - src.dims;
    p.src_size[d] = src.n[d];
    p.out_size[d] = d < first ? 1 : c.out_shape[d - first];
    p.origin[d] = d < first || c.out_origin.empty() ? 0 : c.out_origin[d - first];
  }
  STD_TORCH_CHECK(src.voxels() > 0, "the source has no voxels: ", shape_of(c.src));
  if (c.matrix) {
    c.matrix = torch::stable::contiguous(torch::stable::to(*c.matrix, ScalarType::Double));
    p.matrix = c.matrix->const_data_ptr<double>();
    p.matrix_stride = c.matrix->size(0) == 1 ? 0 : p.dims * (p.dims + 1);
  }
  if (c.disp) {
    c.disp = torch::stable::contiguous(*c.disp);
    set_displacement(p, c, src);
  }
  return p;
}

// Runs the forward kernel into `out`, which has the shape that warp_out_shape says.
inline void run_warp(WarpCall& c, Tensor& out) {
  WarpParams p = prepare_warp(c);
  check_out(out, warp_out_shape(c), c.src);
  check_same_dtype(c.src, "the source", out, "out");
  p.out = out.mutable_data_ptr();
  if (out.numel() == 0) return;
#ifdef MEDSYNTH_WITH_CUDA
  if (on_cuda(c.src)) {
    const CudaScope scope(c.src.get_device());
    warp_cuda(p, scope.stream);
    return;
  }
#endif
  warp_cpu(p);
}

inline Tensor new_warp(WarpCall c) {
  STD_TORCH_CHECK(c.src.dim() >= 3, "the source must be (B, C, *spatial), got ", shape_of(c.src));
  Tensor out = new_output(c.src, warp_out_shape(c));
  run_warp(c, out);
  return out;
}

// The gradients to the source, to the moved location w = x + d(x) (B, D, *out) and to the matrix (float64), per sample
// of the whole batch; those that are not wanted come as empty tensors.
inline std::tuple<Tensor, Tensor, Tensor> run_warp_backward(WarpCall c, Tensor grad, bool src, bool moved,
                                                            bool matrix) {
  STD_TORCH_CHECK(c.mode == static_cast<int64_t>(WarpMode::linear), "only linear warps have a gradient");
  WarpBackwardParams p{};
  p.forward = prepare_warp(c);
  check_shape(grad, "grad", warp_out_shape(c));
  check_same_device(c.src, "the source", grad, "grad");
  check_same_dtype(c.src, "the source", grad, "grad");
  grad = torch::stable::contiguous(grad);
  p.grad = grad.const_data_ptr();
  const WarpParams& f = p.forward;
  const int64_t voxels = f.src_size[0] * f.src_size[1] * f.src_size[2];
  std::vector<int64_t> src_shape{f.batch, f.channels}, moved_shape{f.batch, f.dims};
  for (int d = 3 - f.dims; d < 3; ++d) {
    src_shape.push_back(f.src_size[d]);
    moved_shape.push_back(f.out_size[d]);
  }
  const std::vector<int64_t> none{0};
  Tensor grad_src = new_output(c.src, src ? src_shape : none);
  Tensor grad_moved = new_output(c.src, moved ? moved_shape : none);
  Tensor grad_matrix = torch::stable::new_empty(
      c.src, matrix ? std::vector<int64_t>{f.batch, f.dims, f.dims + 1} : none, ScalarType::Double);
  if (f.batch == 0) return {grad_src, grad_moved, grad_matrix};
  Tensor partial = torch::stable::new_empty(c.src, {matrix ? f.batch * f.out_size[0] * 12 : 0}, ScalarType::Double);
  p.grad_src = src ? grad_src.mutable_data_ptr() : nullptr;
  p.grad_moved = moved ? grad_moved.mutable_data_ptr() : nullptr;
  p.grad_matrix = matrix ? grad_matrix.mutable_data_ptr<double>() : nullptr;
  p.partial = matrix ? partial.mutable_data_ptr<double>() : nullptr;
#ifdef MEDSYNTH_WITH_CUDA
  if (on_cuda(c.src)) {
    const CudaScope scope(c.src.get_device());
    const int64_t n = src ? f.batch * (f.channels * voxels + 1) : 0;
    Tensor sums = torch::stable::new_zeros(c.src, {n}, ScalarType::Long);
    p.sums = src ? sums.mutable_data_ptr<int64_t>() : nullptr;
    warp_backward_cuda(p, scope.stream);
    return {grad_src, grad_moved, grad_matrix};
  }
#endif
  static_cast<void>(voxels);
  warp_backward_cpu(p);
  return {grad_src, grad_moved, grad_matrix};
}

inline std::vector<int64_t> spatial_sizes(const Tensor& t) {
  STD_TORCH_CHECK(t.dim() >= 3, "disp must be (B, D, *spatial), got ", shape_of(t));
  return {t.sizes().begin() + 2, t.sizes().end()};
}

}  // namespace medsynth
