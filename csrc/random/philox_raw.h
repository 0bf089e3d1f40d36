// philox_raw: the bare generator, one row of four words per counter, for tests and for users who need other
// conversions.
#pragma once
#include "../common/isa.h"
#include "../common/types.h"

namespace medsynth {

struct PhiloxRawParams {
  const int64_t* counters;  // (n, 4), each word in [0, 2^32)
  int64_t* out;             // (n, 4)
  int64_t n;
  uint32_t key0, key1;
};

MEDSYNTH_DECLARE_CPU(philox_raw, PhiloxRawParams)
void philox_raw_cuda(const PhiloxRawParams& p, void* stream);

}  // namespace medsynth
