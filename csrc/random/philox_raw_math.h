#pragma once
#include "../common/philox.h"
#include "philox_raw.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

MEDSYNTH_HD void philox_raw_row(const PhiloxRawParams& p, int64_t i) {
  const int64_t* c = p.counters + 4 * i;
  const Philox4 words = philox4x32_10(static_cast<uint32_t>(c[0]), static_cast<uint32_t>(c[1]),
                                      static_cast<uint32_t>(c[2]), static_cast<uint32_t>(c[3]), p.key0, p.key1);
  for (int k = 0; k < 4; ++k) p.out[4 * i + k] = words.r[k];
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
