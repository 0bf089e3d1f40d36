#pragma once
#include "connected_components.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

// Calls visit(index) for the neighbours of a voxel that come before it in raster order.
template <class Visit>
MEDSYNTH_HD void earlier_neighbours(const ConnectedComponentsParams& p, int64_t index, Visit visit) {
  const int64_t row = index / p.n[2], x = index - row * p.n[2], y = row % p.n[1], z = row / p.n[1];
  const int64_t plane = p.n[1] * p.n[2];
  if (x > 0) visit(index - 1);
  if (!p.full) {
    if (y > 0) visit(index - p.n[2]);
    if (z > 0) visit(index - plane);
    return;
  }
  for (int64_t dz = z > 0 ? -1 : 0; dz <= 0; ++dz) {
    const int64_t last_dy = dz < 0 ? 1 : -1;
    for (int64_t dy = -1; dy <= last_dy; ++dy) {
      if (y + dy < 0 || y + dy >= p.n[1]) continue;
      for (int64_t dx = -1; dx <= 1; ++dx) {
        if (x + dx >= 0 && x + dx < p.n[2]) visit(index + dz * plane + dy * p.n[2] + dx);
      }
    }
  }
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
