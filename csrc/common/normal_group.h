// Philox and Box-Muller for a vector of blocks at once; host only.
//
// A group is kLanes blocks = 4 kLanes elements. Words are computed in an order of blocks such that interleaving them
// (4 vectors of words -> 4 vectors of elements in order) needs shuffles inside 128-bit lanes only.
#pragma once
#include "normal.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

constexpr int kGroup = 4 * kLanes;

struct WordGroup {
  VecU w[4];
};

#if defined(__AVX512F__)
// Even and odd 32-bit lanes live in two vectors of 64-bit lanes, whose upper halves hold what multiplication leaves.
inline __attribute__((always_inline)) WordGroup philox_group(const RandomKey& key, uint64_t block) {
  const __m512i base = _mm512_set1_epi64(static_cast<long long>(block));
  __m512i c0[2], c1[2], c2[2], c3[2];
  c0[0] = _mm512_add_epi64(base, _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11));
  c0[1] = _mm512_add_epi64(base, _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15));
  const __m512i m0 = _mm512_set1_epi64(0xD2511F53), m1 = _mm512_set1_epi64(0xCD9E8D57);
  for (int h = 0; h < 2; ++h) {
    c1[h] = _mm512_srli_epi64(c0[h], 32);
    c2[h] = _mm512_set1_epi64(key.sample);
    c3[h] = _mm512_set1_epi64(key.stream_channel);
  }
  uint32_t k0 = static_cast<uint32_t>(key.seed), k1 = static_cast<uint32_t>(key.seed >> 32);
  MEDSYNTH_UNROLL
  for (int round = 0; round < 10; ++round) {
    const __m512i key0 = _mm512_set1_epi64(k0), key1 = _mm512_set1_epi64(k1);
    MEDSYNTH_UNROLL
    for (int h = 0; h < 2; ++h) {
      const __m512i p0 = _mm512_mul_epu32(c0[h], m0), p1 = _mm512_mul_epu32(c2[h], m1);
      c0[h] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(p1, 32), c1[h], key0, 0x96);
      c2[h] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(p0, 32), c3[h], key1, 0x96);
      c1[h] = p1;
      c3[h] = p0;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  const auto merge = [](const __m512i(&c)[2]) {
    return bit_copy<VecU>(_mm512_mask_shuffle_epi32(c[0], 0xAAAA, c[1], _MM_PERM_CCAA));
  };
  return {{merge(c0), merge(c1), merge(c2), merge(c3)}};
}
#elif defined(__AVX2__)
inline __attribute__((always_inline)) WordGroup philox_group(const RandomKey& key, uint64_t block) {
  const __m256i base = _mm256_set1_epi64x(static_cast<long long>(block));
  __m256i c0[2], c1[2], c2[2], c3[2];
  c0[0] = _mm256_add_epi64(base, _mm256_setr_epi64x(0, 4, 1, 5));
  c0[1] = _mm256_add_epi64(base, _mm256_setr_epi64x(2, 6, 3, 7));
  const __m256i m0 = _mm256_set1_epi64x(0xD2511F53), m1 = _mm256_set1_epi64x(0xCD9E8D57);
  for (int h = 0; h < 2; ++h) {
    c1[h] = _mm256_srli_epi64(c0[h], 32);
    c2[h] = _mm256_set1_epi64x(key.sample);
    c3[h] = _mm256_set1_epi64x(key.stream_channel);
  }
  uint32_t k0 = static_cast<uint32_t>(key.seed), k1 = static_cast<uint32_t>(key.seed >> 32);
  MEDSYNTH_UNROLL
  for (int round = 0; round < 10; ++round) {
    const __m256i key0 = _mm256_set1_epi64x(k0), key1 = _mm256_set1_epi64x(k1);
    MEDSYNTH_UNROLL
    for (int h = 0; h < 2; ++h) {
      const __m256i p0 = _mm256_mul_epu32(c0[h], m0), p1 = _mm256_mul_epu32(c2[h], m1);
      c0[h] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p1, 32), c1[h]), key0);
      c2[h] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p0, 32), c3[h]), key1);
      c1[h] = p1;
      c3[h] = p0;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  const auto merge = [](const __m256i(&c)[2]) {
    return bit_copy<VecU>(_mm256_blend_epi32(c[0], _mm256_slli_epi64(c[1], 32), 0xAA));
  };
  return {{merge(c0), merge(c1), merge(c2), merge(c3)}};
}
#else
inline WordGroup philox_group(const RandomKey& key, uint64_t block) {
  WordGroup g;
  for (int i = 0; i < kLanes; ++i) {
    const Philox4 words = philox_block(key, block + static_cast<uint64_t>(i));
    for (int k = 0; k < 4; ++k) g.w[k][i] = words.r[k];
  }
  return g;
}
#endif

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

// The group's normals, in order.
inline __attribute__((always_inline)) void normal_group(const RandomKey& key, uint64_t block, VecF (&z)[4]) {
  const WordGroup g = philox_group(key, block);
  normal_pair<VecF>(g.w[0], g.w[1], z[0], z[1]);
  normal_pair<VecF>(g.w[2], g.w[3], z[2], z[3]);
  interleave(z);
}

// out[i] = number v + i of a sequence, for i in [0, n); `group(block, elements)` makes a group of type T in order.
template <class T, class Group>
inline void fill_groups(int64_t v, int64_t n, T* out, Group group) {
  alignas(64) T part[kGroup];
  int64_t done = 0;
  if (v & 3) {  // the first group starts inside a block
    group(static_cast<uint64_t>(v >> 2), part);
    const int64_t skip = v & 3;
    for (; done < n && done < kGroup - skip; ++done) out[done] = part[done + skip];
  }
  for (; done + kGroup <= n; done += kGroup) group(static_cast<uint64_t>((v + done) >> 2), out + done);
  if (done < n) {
    group(static_cast<uint64_t>((v + done) >> 2), part);
    for (int64_t i = 0; done + i < n; ++i) out[done + i] = part[i];
  }
}

inline void fill_normals(const RandomKey& key, int64_t v, int64_t n, float* out) {
  fill_groups(v, n, out, [&](uint64_t block, float* to) {
    VecF z[4];
    normal_group(key, block, z);
    for (int i = 0; i < 4; ++i) store(to + i * kLanes, z[i]);
  });
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
