// rand_normal, rand_uniform, rand_int: fill a (B, C, *S) tensor with numbers that depend on (seed, sample, stream,
// channel, element of the virtual grid) alone; see docs/random_numbers.md.
#pragma once
#include "../common/index_grid.h"
#include "../common/isa.h"
#include "../common/types.h"

namespace medsynth {

enum class RandKind : int32_t { normal, uniform, integer };

struct RandFillParams {
  void* out;  // (B, C, elements) dtype
  DType dtype;
  RandKind kind;
  int64_t batch, channels;
  IndexGrid grid;
  uint64_t seed;
  uint32_t sample_offset, stream;
  double low, high;  // uniform
  uint64_t n;        // integer: numbers in [0, n), n <= 2^32
};

MEDSYNTH_DECLARE_CPU(rand_fill, RandFillParams)
void rand_fill_cuda(const RandFillParams& p, void* stream);

}  // namespace medsynth
