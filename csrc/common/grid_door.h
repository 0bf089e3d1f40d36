// The index grid of a tensor's spatial axes, for the doors of random operators.
#pragma once
#include "check.h"
#include "index_grid.h"

namespace medsynth {

// Own grid: axes of `t` from `first` on. An empty index_shape means that the virtual grid is the own one.
inline IndexGrid index_grid_of(const Tensor& t, int64_t first, const char* name,
                               const std::vector<int64_t>& index_shape, const std::vector<int64_t>& index_origin) {
  const Spatial own = spatial_of(t, first, name);
  int64_t whole[3] = {own.n[0], own.n[1], own.n[2]}, origin[3] = {0, 0, 0};
  const auto dims = static_cast<size_t>(own.dims);
  STD_TORCH_CHECK(
      index_shape.empty() ? index_origin.empty() : index_shape.size() == dims && index_origin.size() == dims,
      "index_shape and index_origin must both be empty or have one entry per spatial axis");
  for (size_t d = 0; d < index_shape.size(); ++d) {
    const size_t to = 3 - dims + d;
    whole[to] = index_shape[d];
    origin[to] = index_origin[d];
    STD_TORCH_CHECK(origin[to] >= 0 && origin[to] + own.n[to] <= whole[to], "the grid must lie inside index_shape");
  }
  return make_index_grid(own.n, whole, origin);
}

}  // namespace medsynth
