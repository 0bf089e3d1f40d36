// render_heatmaps: Gaussians at points, one or several to a map.
//
// h(r) = A exp(-sum_d (r_d - p_d)^2 / (2 s_d^2)) where |r_d - p_d| <= half_d on every axis, else 0. Several points of a
// map are added, or the largest counts (never less than 0; the lowest point where two are equal). A point that is not
// finite, or whose s_d is not positive, contributes nothing. In the gradient every point sums over its own box.
#pragma once
#include "../common/isa.h"
#include "../common/types.h"

namespace medsynth {

struct RenderHeatmapsParams {
  const void* points;      // (count, axes) dtype
  const void* sigma;       // (count, axes) dtype
  const void* half;        // (count, axes) dtype: half widths of the boxes
  const void* amplitude;   // (count) dtype
  const int64_t* order;    // (count): points sorted by map; null: point i is the only one of map i
  const int64_t* offsets;  // (maps + 1) into order; null with it
  void* out;               // (maps, n) dtype; forward
  const void* grad;        // (maps, n) dtype; backward, as all below
  void* grad_points;       // (count, axes)
  void* grad_sigma;        // (count, axes)
  void* grad_amplitude;    // (count)
  int64_t count, maps, axes;
  int64_t n[3];  // sizes, padded with leading ones to three axes
  DType dtype;
  bool sum;

  MEDSYNTH_HD int64_t volume() const { return n[0] * n[1] * n[2]; }
};

MEDSYNTH_DECLARE_CPU(render_heatmaps, RenderHeatmapsParams)
MEDSYNTH_DECLARE_CPU(render_heatmaps_backward, RenderHeatmapsParams)
void render_heatmaps_cuda(const RenderHeatmapsParams& p, void* stream);
void render_heatmaps_backward_cuda(const RenderHeatmapsParams& p, void* stream);

}  // namespace medsynth
