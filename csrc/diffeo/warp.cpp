#include <torch/csrc/stable/library.h>

#include "warp_door.h"

namespace medsynth {
namespace {

constexpr auto kSame = static_cast<int64_t>(ResizeRule::same);

Tensor warp_new(Tensor img, Tensor disp, int64_t mode, int64_t border, double fill) {
  return new_warp({img, std::nullopt, disp, spatial_sizes(disp), {}, {}, kSame, mode, border, fill, 0});
}

void warp_into(Tensor img, Tensor disp, int64_t mode, int64_t border, double fill, Tensor out) {
  WarpCall c{img, std::nullopt, disp, spatial_sizes(disp), {}, {}, kSame, mode, border, fill, 0};
  run_warp(c, out);
}

std::tuple<Tensor, Tensor> warp_gradients(Tensor grad, Tensor img, Tensor disp, int64_t border, double fill,
                                          bool want_img, bool want_disp) {
  auto [grad_img, grad_disp, none] =
      run_warp_backward({img, std::nullopt, disp, spatial_sizes(disp), {}, {}, kSame, 0, border, fill, 0}, grad,
                        want_img, want_disp, false);
  return {grad_img, grad_disp};
}

Tensor warp_labels(Tensor labels, Tensor disp, int64_t mode, int64_t border, int64_t fill) {
  return new_warp({labels, std::nullopt, disp, spatial_sizes(disp), {}, {}, kSame, mode, border, 0.0, fill});
}

void warp_labels_out(Tensor labels, Tensor disp, int64_t mode, int64_t border, int64_t fill, Tensor out) {
  WarpCall c{labels, std::nullopt, disp, spatial_sizes(disp), {}, {}, kSame, mode, border, 0.0, fill};
  run_warp(c, out);
}

}  // namespace
}  // namespace medsynth

#define MEDSYNTH_WARP_KERNELS(m)                                 \
  m.impl("warp", TORCH_BOX(&medsynth::warp_new));                \
  m.impl("warp_backward", TORCH_BOX(&medsynth::warp_gradients)); \
  m.impl("warp_out", TORCH_BOX(&medsynth::warp_into));           \
  m.impl("warp_labels", TORCH_BOX(&medsynth::warp_labels));      \
  m.impl("warp_labels_out", TORCH_BOX(&medsynth::warp_labels_out))

STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, CPU, m) { MEDSYNTH_WARP_KERNELS(m); }
#ifdef MEDSYNTH_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, CUDA, m) { MEDSYNTH_WARP_KERNELS(m); }
#endif
