#pragma once
#include "../common/normal.h"
#include "rand_fill.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

template <class T>
MEDSYNTH_HD T scaled_uniform(const RandFillParams& p, T u) {
  const T low = static_cast<T>(p.low);
  return fma_of(static_cast<T>(p.high) - low, u, low);
}

template <class L>
MEDSYNTH_HD L scaled_integer(const RandFillParams& p, uint32_t word) {
  return static_cast<L>((word * p.n) >> 32);
}

MEDSYNTH_HD RandomKey plane_key(const RandFillParams& p, int64_t plane) {
  return random_key(p.seed, p.sample_offset + static_cast<uint32_t>(plane / p.channels), p.stream,
                    static_cast<uint32_t>(plane % p.channels));
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
