// Where the elements of a grid lie in the virtual grid that numbers them: a crop or a tile then draws the same random
// numbers as the whole. Axes that lie back to back in both grids are merged into segments.
#pragma once
#include <cstdint>

#include "isa.h"

namespace medsynth {

struct IndexGrid {
  int64_t outer0, outer1;  // segments, in two axes
  int64_t length;          // elements of a segment, consecutive in both grids
  int64_t step0, step1;    // virtual index between neighbouring segments
  int64_t origin;          // virtual index of the first element

  MEDSYNTH_HD int64_t segments() const { return outer0 * outer1; }
  MEDSYNTH_HD int64_t elements() const { return outer0 * outer1 * length; }
  // Virtual index of the first element of a segment.
  MEDSYNTH_HD int64_t first(int64_t segment) const {
    return origin + segment / outer1 * step0 + segment % outer1 * step1;
  }
};

// `n`, `whole`, `origin`: own grid, virtual grid and place, padded to three axes with leading (1, 1, 0).
inline IndexGrid make_index_grid(const int64_t (&n)[3], const int64_t (&whole)[3], const int64_t (&origin)[3]) {
  IndexGrid g{
      n[0], n[1], n[2], whole[1] * whole[2], whole[2], (origin[0] * whole[1] + origin[1]) * whole[2] + origin[2]};
  if (n[2] == whole[2]) {
    g.length = n[1] * n[2];
    g.outer1 = 1;
    if (n[1] == whole[1]) {
      g.length *= n[0];
      g.outer0 = 1;
    }
  }
  return g;
}

}  // namespace medsynth
