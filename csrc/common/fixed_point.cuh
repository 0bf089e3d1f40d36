// Sums in any order that are the same to the last bit: contributions are rounded to multiples of largest * 2^-shift and
// added as 64-bit integers.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

namespace medsynth {

// The bits of |v|: they order as the numbers do, with infinities and NaN on top.
__device__ inline unsigned long long size_bits(double v) {
  return static_cast<unsigned long long>(__double_as_longlong(fabs(v)));
}

// How many bits a contribution may keep when `contributions` of them reach one sum; no more than a double holds.
__device__ inline int fixed_shift(int64_t contributions) {
  int bits = 1;
  while ((int64_t{1} << bits) < contributions) ++bits;
  return 61 - bits < 52 ? 61 - bits : 52;
}

}  // namespace medsynth
