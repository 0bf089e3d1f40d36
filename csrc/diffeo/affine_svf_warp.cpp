#include <torch/csrc/stable/library.h>

#include "warp_door.h"

namespace medsynth {
namespace {

WarpCall call_of(Tensor src, Tensor matrix, std::optional<Tensor> disp, std::vector<int64_t> out_shape,
                 std::vector<int64_t> out_origin, std::vector<int64_t> grid_shape, int64_t rule, int64_t mode,
                 int64_t border, double fill) {
  return {std::move(src),
          std::move(matrix),
          std::move(disp),
          std::move(out_shape),
          std::move(out_origin),
          std::move(grid_shape),
          rule,
          mode,
          border,
          fill,
          static_cast<int64_t>(fill)};
}

Tensor affine_svf_warp(Tensor src, Tensor matrix, std::optional<Tensor> disp, std::vector<int64_t> out_shape,
                       std::vector<int64_t> out_origin, std::vector<int64_t> grid_shape, int64_t rule, int64_t mode,
                       int64_t border, double fill) {
  return new_warp(call_of(src, matrix, disp, out_shape, out_origin, grid_shape, rule, mode, border, fill));
}

void affine_svf_warp_out(Tensor src, Tensor matrix, std::optional<Tensor> disp, std::vector<int64_t> out_shape,
                         std::vector<int64_t> out_origin, std::vector<int64_t> grid_shape, int64_t rule, int64_t mode,
                         int64_t border, double fill, Tensor out) {
  WarpCall c = call_of(src, matrix, disp, out_shape, out_origin, grid_shape, rule, mode, border, fill);
  run_warp(c, out);
}

std::tuple<Tensor, Tensor, Tensor> affine_svf_warp_backward(Tensor grad, Tensor src, Tensor matrix,
                                                            std::optional<Tensor> disp, std::vector<int64_t> out_shape,
                                                            std::vector<int64_t> out_origin,
                                                            std::vector<int64_t> grid_shape, int64_t rule,
                                                            int64_t border, double fill, bool want_src, bool want_moved,
                                                            bool want_matrix) {
  return run_warp_backward(call_of(src, matrix, disp, out_shape, out_origin, grid_shape, rule, 0, border, fill), grad,
                           want_src, want_moved, want_matrix);
}

}  // namespace
}  // namespace medsynth

STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, CPU, m) {
  m.impl("affine_svf_warp", TORCH_BOX(&medsynth::affine_svf_warp));
  m.impl("affine_svf_warp_backward", TORCH_BOX(&medsynth::affine_svf_warp_backward));
  m.impl("affine_svf_warp_out", TORCH_BOX(&medsynth::affine_svf_warp_out));
}
#ifdef MEDSYNTH_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, CUDA, m) {
  m.impl("affine_svf_warp", TORCH_BOX(&medsynth::affine_svf_warp));
  m.impl("affine_svf_warp_backward", TORCH_BOX(&medsynth::affine_svf_warp_backward));
  m.impl("affine_svf_warp_out", TORCH_BOX(&medsynth::affine_svf_warp_out));
}
#endif
