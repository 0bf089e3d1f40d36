// Philox4x32-10 (Salmon et al., SC 2011) and the conversions to uniform and normal numbers, for host and device.
//
// The layout of the counter is frozen (see docs/random_numbers.md):
//   key      = low, high half of the seed
//   counter  = low, high half of the block j = v >> 2 | sample index | stream << 8 | channel
// so a number depends on (seed, sample, stream, channel, v) alone: not on threads, batch split or device. All
// arithmetic is explicit (fma where written, never by contraction), so CPU and CUDA normally agree to the last bit.
#pragma once
#include <cmath>
#include <cstdint>

#include "isa.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

struct Philox4 {
  uint32_t r[4];
};

MEDSYNTH_HD Philox4 philox4x32_10(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0, uint32_t k1) {
  MEDSYNTH_UNROLL
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c0;
    const uint64_t p1 = uint64_t{0xCD9E8D57u} * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(p1);
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// What addresses a sequence of numbers: everything but the element v.
struct RandomKey {
  uint64_t seed;
  uint32_t sample;
  uint32_t stream_channel;  // stream << 8 | channel
};

MEDSYNTH_HD RandomKey random_key(uint64_t seed, uint32_t sample, uint32_t stream, uint32_t channel) {
  return {seed, sample, (stream << 8) | channel};
}

MEDSYNTH_HD Philox4 philox_block(const RandomKey& key, uint64_t block) {
  return philox4x32_10(static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), key.sample, key.stream_channel,
                       static_cast<uint32_t>(key.seed), static_cast<uint32_t>(key.seed >> 32));
}

// u in (0, 1] and [0, 1): exact in float32 on any IEEE device.
MEDSYNTH_HD float uniform_open_low(uint32_t r) {
  return static_cast<float>(static_cast<int32_t>((r >> 8) + 1)) * 0x1p-24f;
}
MEDSYNTH_HD float uniform_open_high(uint32_t r) { return static_cast<float>(static_cast<int32_t>(r >> 8)) * 0x1p-24f; }
// 53-bit forms, from two words.
MEDSYNTH_HD double uniform_open_low(uint32_t hi, uint32_t lo) {
  return static_cast<double>(((static_cast<uint64_t>(hi) << 32 | lo) >> 11) + 1) * 0x1p-53;
}
MEDSYNTH_HD double uniform_open_high(uint32_t hi, uint32_t lo) {
  return static_cast<double>((static_cast<uint64_t>(hi) << 32 | lo) >> 11) * 0x1p-53;
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
