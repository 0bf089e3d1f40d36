// What the doors of the vector-field operators check and build.
#pragma once
#include "../common/check.h"
#include "../common/cuda_stream.h"
#include "quad_math.h"

namespace medsynth {

inline std::vector<int64_t> sizes_of(const Tensor& t) { return {t.sizes().begin(), t.sizes().end()}; }

inline Border border_of(int64_t border) {
  STD_TORCH_CHECK(border >= 0 && border <= 2, "border must be 0 (clamp), 1 (zeros) or 2 (reflect), got ", border);
  return static_cast<Border>(border);
}

// The grid of a field (B, D, *S) with D = number of spatial axes, as quads see it.
inline QuadGrid field_grid(const Tensor& t, const char* name) {
  const Spatial s = spatial_of(t, 2, name);
  STD_TORCH_CHECK(t.size(1) == s.dims, name, " must have one component per spatial axis, got shape ", shape_of(t));
  for (int d = 0; d < 3; ++d) {
    STD_TORCH_CHECK(s.n[d] < (int64_t{1} << 30), name, " has an axis of ", s.n[d], " voxels; 2^30 - 1 is the most");
    STD_TORCH_CHECK(s.n[d] > 0 || t.numel() == 0, name, " has an empty axis");
  }
  if (s.dims == 2) return {s.n[1], 1, s.n[2], 2};
  return {s.n[0], s.n[1], s.n[2], s.dims};
}

inline Tensor bytes_like(const Tensor& t, int64_t bytes) {
  return torch::stable::new_empty(t, {bytes}, ScalarType::Byte);
}

}  // namespace medsynth
