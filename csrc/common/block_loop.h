// The loop of CUDA kernels that draw random numbers: one thread per Philox block of one plane.
#pragma once
#include "index_grid.h"

namespace medsynth {

// Calls body(block, begin, first, last) in a grid-stride loop over x: the block's elements [first, last) exist and lie
// at begin + first.. in the plane. Elements per block: 4 or 2.
template <int PerBlock, class Body>
__device__ __forceinline__ void for_each_block(const IndexGrid& grid, int64_t from, int64_t to, int64_t step,
                                               Body body) {
  const int64_t blocks = (grid.length + 2 * PerBlock - 2) / PerBlock;  // per segment, wherever it begins
  for (int64_t i = from; i < to; i += step) {
    const int64_t segment = blocks == to ? 0 : i / blocks;
    const int64_t v = grid.first(segment);
    const int64_t block = v / PerBlock + (i - segment * blocks);
    const int64_t start = block * PerBlock - v;  // inside the segment
    if (start >= grid.length) continue;
    const int first = start < 0 ? static_cast<int>(-start) : 0;
    const int last = grid.length - start < PerBlock ? static_cast<int>(grid.length - start) : PerBlock;
    body(static_cast<uint64_t>(block), segment * grid.length + start, first, last);
  }
}

template <int PerBlock>
MEDSYNTH_HD int64_t block_count(const IndexGrid& grid) {
  return grid.segments() * ((grid.length + 2 * PerBlock - 2) / PerBlock);
}

}  // namespace medsynth
