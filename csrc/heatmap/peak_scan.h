// The first of the largest numbers of a run of voxels, and tests on vectors; host only.
#pragma once
#include "../common/lanes.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

template <class M>
inline __attribute__((always_inline)) bool any_lane(M mask) {
  constexpr int kWords = sizeof(M) / 8;
  int64_t words[kWords];
  __builtin_memcpy(words, &mask, sizeof mask);
  int64_t any = 0;
  for (int i = 0; i < kWords; ++i) any |= words[i];
  return any != 0;
}
#if defined(__AVX512F__)
inline __attribute__((always_inline)) bool any_lane(VecI mask) {
  const auto bits = reinterpret_cast<__m512i>(mask);
  return _mm512_test_epi32_mask(bits, bits) != 0;
}
#elif defined(__AVX2__)
inline __attribute__((always_inline)) bool any_lane(VecI mask) {
  const auto bits = reinterpret_cast<__m256i>(mask);
  return _mm256_testz_si256(bits, bits) == 0;
}
#endif

// The larger of each lane, b where a is NaN.
inline __attribute__((always_inline)) VecF larger_number(VecF a, VecF b) { return larger(a, b); }
inline __attribute__((always_inline)) VecD larger_number(VecD a, VecD b) { return a > b ? a : b; }

// Largest number of [first, last), -inf for none.
template <class T>
T largest(const T* h, int64_t first, int64_t last) {
  using V = typename VecOf<T>::type;
  constexpr int64_t kStep = sizeof(V) / sizeof(T);
  const T none = static_cast<T>(-INFINITY);
  V most[4];
  for (V& m : most) m = V{} + none;
  int64_t i = first;
  for (; i + 4 * kStep <= last; i += 4 * kStep) {
    for (int k = 0; k < 4; ++k) most[k] = larger_number(load<V>(h + i + k * kStep), most[k]);
  }
  most[0] = larger_number(larger_number(most[0], most[1]), larger_number(most[2], most[3]));
  T result = none;
  for (int64_t l = 0; l < kStep; ++l) result = most[0][l] > result ? most[0][l] : result;
  for (; i < last; ++i) result = h[i] > result ? h[i] : result;
  return result;
}

// Index of the first of the largest numbers of [first, last), -1 when all are NaN.
template <class T>
int64_t first_largest(const T* h, int64_t first, int64_t last) {
  constexpr int64_t kPiece = 4096;
  T best = static_cast<T>(-INFINITY);
  int64_t begin = first, end = last;
  for (int64_t i = first; i < last; i += kPiece) {
    const int64_t stop = i + kPiece < last ? i + kPiece : last;
    const T most = largest(h, i, stop);
    if (most > best) {
      best = most;
      begin = i;
      end = stop;
    }
  }
  using V = typename VecOf<T>::type;
  constexpr int64_t kStep = sizeof(V) / sizeof(T);
  int64_t i = begin;
  const V wanted = V{} + best;
  while (i + kStep <= end && !any_lane(load<V>(h + i) == wanted)) i += kStep;
  for (; i < end; ++i) {
    if (h[i] == best) return i;
  }
  return -1;
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
