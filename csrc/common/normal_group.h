// Philox and Box-Muller for a vector of blocks at once; host only.
//
// A group is kLanes blocks = 4 kLanes elements. Words are computed in an order of blocks such that interleaving them
// (4 vectors of words -> 4 vectors of elements in order) needs shuffles inside 128-bit lanes only.
#pragma once
#include "normal.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

constexpr int kGroup = 4 * kLanes;

// Which block of a group lane `i` of the words belongs to.
constexpr int block_of_lane(int i) { return i / 4 + i % 4 * (kLanes / 4); }

#if defined(__AVX2__)
// Even and odd lanes of the words live in two vectors of 64-bit lanes, whose upper halves hold what multiplication
// leaves.
typedef uint64_t VecL __attribute__((vector_size(kVectorBytes)));

#if defined(__AVX512F__)
inline __attribute__((always_inline)) VecL multiply(VecL a, VecL b) {
  return bit_copy<VecL>(_mm512_mul_epu32(bit_copy<__m512i>(a), bit_copy<__m512i>(b)));
}
template <class V>
inline __attribute__((always_inline)) V xor3(V a, V b, V c) {
  return bit_copy<V>(_mm512_ternarylogic_epi64(bit_copy<__m512i>(a), bit_copy<__m512i>(b), bit_copy<__m512i>(c), 0x96));
}
inline __attribute__((always_inline)) VecU merge_low(const VecL (&x)[2]) {
  return bit_copy<VecU>(
      _mm512_mask_shuffle_epi32(bit_copy<__m512i>(x[0]), 0xAAAA, bit_copy<__m512i>(x[1]), _MM_PERM_CCAA));
}
inline __attribute__((always_inline)) VecU merge_high(const VecL (&x)[2]) {
  return bit_copy<VecU>(
      _mm512_mask_shuffle_epi32(bit_copy<__m512i>(x[1]), 0x5555, bit_copy<__m512i>(x[0]), _MM_PERM_DDBB));
}
#else
inline __attribute__((always_inline)) VecL multiply(VecL a, VecL b) {
  return bit_copy<VecL>(_mm256_mul_epu32(bit_copy<__m256i>(a), bit_copy<__m256i>(b)));
}
template <class V>
inline __attribute__((always_inline)) V xor3(V a, V b, V c) {
  return a ^ b ^ c;
}
inline __attribute__((always_inline)) VecU merge_low(const VecL (&x)[2]) {
  return bit_copy<VecU>(_mm256_blend_epi32(bit_copy<__m256i>(x[0]), bit_copy<__m256i>(VecL(x[1] << 32)), 0xAA));
}
inline __attribute__((always_inline)) VecU merge_high(const VecL (&x)[2]) {
  return bit_copy<VecU>(_mm256_blend_epi32(bit_copy<__m256i>(VecL(x[0] >> 32)), bit_copy<__m256i>(x[1]), 0xAA));
}
#endif
#endif

#if defined(__AVX2__)
// Words of `count` groups whose blocks share the upper half of their number, so that half of the state is the same for
// all after two rounds.
inline void vector_words(const RandomKey& key, uint64_t block, int64_t count, uint32_t* out) {
  constexpr uint32_t mul0 = 0xD2511F53u, mul1 = 0xCD9E8D57u, add0 = 0x9E3779B9u, add1 = 0xBB67AE85u;
  const uint32_t k0 = static_cast<uint32_t>(key.seed), k1 = static_cast<uint32_t>(key.seed >> 32);
  const uint64_t first = uint64_t{mul1} * key.sample;
  const uint32_t high = static_cast<uint32_t>(block >> 32);
  const uint64_t second = uint64_t{mul0} * (static_cast<uint32_t>(first >> 32) ^ high ^ k0);
  const VecL first2 = splat<VecL>(uint64_t{key.stream_channel ^ k1});
  const VecL second0 = splat<VecL>(uint64_t{static_cast<uint32_t>(first) ^ (k0 + add0)});
  const VecL second2 = splat<VecL>(uint64_t{static_cast<uint32_t>(second >> 32) ^ (k1 + add1)});
  const VecL second3 = splat<VecL>(uint64_t{static_cast<uint32_t>(second)});
  const VecL m0 = splat<VecL>(uint64_t{mul0}), m1 = splat<VecL>(uint64_t{mul1});
  VecL key0[7], key1[7], low[2];
  for (uint32_t i = 0; i < 7; ++i) {
    key0[i] = splat<VecL>(uint64_t{k0 + (i + 2) * add0});
    key1[i] = splat<VecL>(uint64_t{k1 + (i + 2) * add1});
  }
  const VecU last0 = splat<VecU>(k0 + 9 * add0), last1 = splat<VecU>(k1 + 9 * add1);
  for (int h = 0; h < 2; ++h) {
    uint64_t numbers[kLanes / 2];
    for (int i = 0; i < kLanes / 2; ++i) {
      numbers[i] = static_cast<uint32_t>(block) + static_cast<uint64_t>(block_of_lane(2 * i + h));
    }
    low[h] = load<VecL>(numbers);
  }
  for (int64_t g = 0; g < count; ++g, out += kGroup) {
    VecL c0[2], c1[2], c2[2], c3[2];
    MEDSYNTH_UNROLL
    for (int h = 0; h < 2; ++h) {
      const VecL p0 = multiply(low[h], m0);
      const VecL p1 = multiply((p0 >> 32) ^ first2, m1);
      c0[h] = (p1 >> 32) ^ second0;
      c1[h] = p1;
      c2[h] = p0 ^ second2;
      c3[h] = second3;
      low[h] += static_cast<uint64_t>(kLanes);
    }
    MEDSYNTH_UNROLL
    for (int round = 0; round < 7; ++round) {
      MEDSYNTH_UNROLL
      for (int h = 0; h < 2; ++h) {
        const VecL p0 = multiply(c0[h], m0), p1 = multiply(c2[h], m1);
        c0[h] = xor3(VecL(p1 >> 32), c1[h], key0[round]);
        c2[h] = xor3(VecL(p0 >> 32), c3[h], key1[round]);
        c1[h] = p1;
        c3[h] = p0;
      }
    }
    const VecL p0[2] = {multiply(c0[0], m0), multiply(c0[1], m0)}, p1[2] = {multiply(c2[0], m1), multiply(c2[1], m1)};
    store(out, xor3(merge_high(p1), merge_low(c1), last0));
    store(out + kLanes, merge_low(p1));
    store(out + 2 * kLanes, xor3(merge_high(p0), merge_low(c3), last1));
    store(out + 3 * kLanes, merge_low(p0));
  }
}
#endif

// Words of `count` groups from `block` on: per group, kLanes of word 0, then of word 1, 2 and 3.
inline void word_groups(const RandomKey& key, uint64_t block, int64_t count, uint32_t* out) {
  while (count > 0) {
    int64_t done = 1;
#if defined(__AVX2__)
    const int64_t whole = static_cast<int64_t>((uint64_t{1} << 32) - static_cast<uint32_t>(block)) / kLanes;
    if (whole > 0) {
      done = count < whole ? count : whole;
      vector_words(key, block, done, out);
    }
    const bool scalar = whole == 0;
#else
    const bool scalar = true;
#endif
    for (int i = 0; scalar && i < kLanes; ++i) {
      const Philox4 words = philox_block(key, block + static_cast<uint64_t>(block_of_lane(i)));
      for (int k = 0; k < 4; ++k) out[k * kLanes + i] = words.r[k];
    }
    count -= done;
    out += done * kGroup;
    block += static_cast<uint64_t>(done) * kLanes;
  }
}

// Four vectors of words 0..3 -> the group's elements in order.
template <class V>
inline __attribute__((always_inline)) void interleave(V (&w)[4]) {
#if defined(__AVX512F__)
  const __m512 x[4] = {bit_copy<__m512>(w[0]), bit_copy<__m512>(w[1]), bit_copy<__m512>(w[2]), bit_copy<__m512>(w[3])};
  const __m512d a = bit_copy<__m512d>(_mm512_unpacklo_ps(x[0], x[1])),
                b = bit_copy<__m512d>(_mm512_unpacklo_ps(x[2], x[3]));
  const __m512d c = bit_copy<__m512d>(_mm512_unpackhi_ps(x[0], x[1])),
                d = bit_copy<__m512d>(_mm512_unpackhi_ps(x[2], x[3]));
  w[0] = bit_copy<V>(_mm512_unpacklo_pd(a, b));
  w[1] = bit_copy<V>(_mm512_unpackhi_pd(a, b));
  w[2] = bit_copy<V>(_mm512_unpacklo_pd(c, d));
  w[3] = bit_copy<V>(_mm512_unpackhi_pd(c, d));
#elif defined(__AVX2__)
  const __m256 x[4] = {bit_copy<__m256>(w[0]), bit_copy<__m256>(w[1]), bit_copy<__m256>(w[2]), bit_copy<__m256>(w[3])};
  const __m256d a = bit_copy<__m256d>(_mm256_unpacklo_ps(x[0], x[1])),
                b = bit_copy<__m256d>(_mm256_unpacklo_ps(x[2], x[3]));
  const __m256d c = bit_copy<__m256d>(_mm256_unpackhi_ps(x[0], x[1])),
                d = bit_copy<__m256d>(_mm256_unpackhi_ps(x[2], x[3]));
  w[0] = bit_copy<V>(_mm256_unpacklo_pd(a, b));
  w[1] = bit_copy<V>(_mm256_unpackhi_pd(a, b));
  w[2] = bit_copy<V>(_mm256_unpacklo_pd(c, d));
  w[3] = bit_copy<V>(_mm256_unpackhi_pd(c, d));
#else
  V t[4];
  for (int i = 0; i < 4; ++i) {
    for (int k = 0; k < 4; ++k) t[i][k] = w[k][i];
  }
  for (int i = 0; i < 4; ++i) w[i] = t[i];
#endif
}

// out[i] = number v + i of a sequence, for i in [0, n); `groups(block, count, elements)` makes `count` groups of type T
// in order.
template <class T, class Groups>
inline void fill_groups(int64_t v, int64_t n, T* out, Groups groups) {
  alignas(64) T part[kGroup];
  int64_t done = 0;
  if (v & 3) {  // the first group starts inside a block
    groups(static_cast<uint64_t>(v >> 2), 1, part);
    const int64_t skip = v & 3;
    for (; done < n && done < kGroup - skip; ++done) out[done] = part[done + skip];
  }
  const int64_t whole = (n - done) / kGroup;
  if (whole > 0) groups(static_cast<uint64_t>((v + done) >> 2), whole, out + done);
  done += whole * kGroup;
  if (done < n) {
    groups(static_cast<uint64_t>((v + done) >> 2), 1, part);
    for (int64_t i = 0; done + i < n; ++i) out[done + i] = part[i];
  }
}

// Words first and normals in their place: each loop then keeps its constants in registers.
inline void normal_groups(const RandomKey& key, uint64_t block, int64_t count, float* out) {
  constexpr int64_t kBatch = 2048 / kGroup;  // stays in the first-level cache
  alignas(64) uint32_t words[kBatch * kGroup];
  for (; count > 0; count -= kBatch, block += kBatch * kLanes) {
    const int64_t batch = count < kBatch ? count : kBatch;
    word_groups(key, block, batch, words);
    for (int64_t g = 0; g < batch; ++g, out += kGroup) {
      const uint32_t* w = words + g * kGroup;
      VecF z[4];
      normal_pair<VecF>(load<VecU>(w), load<VecU>(w + kLanes), z[0], z[1]);
      normal_pair<VecF>(load<VecU>(w + 2 * kLanes), load<VecU>(w + 3 * kLanes), z[2], z[3]);
      interleave(z);
      for (int i = 0; i < 4; ++i) store(out + i * kLanes, z[i]);
    }
  }
}

inline void fill_normals(const RandomKey& key, int64_t v, int64_t n, float* out) {
  fill_groups(v, n, out, [&](uint64_t block, int64_t count, float* to) { normal_groups(key, block, count, to); });
}

inline void fill_normals(const RandomKey& key, int64_t v, int64_t n, double* out) {
  double pair[2];
  int64_t have = -1;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t block = (v + i) >> 1;
    if (block != have) block_normals(philox_block(key, static_cast<uint64_t>(block)), pair);
    have = block;
    out[i] = pair[(v + i) & 1];
  }
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
