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

// Index of the first of the largest numbers of [first, last), -1 when all are NaN. Every vector is held against the
// largest number so far, which few exceed; that is quicker than keeping maxima, since nothing waits for anything. The
// hardware fetches ahead within a page only, so the first line of the next page is asked for a page before.
template <class T>
int64_t first_largest(const T* h, int64_t first, int64_t last) {
  using V = typename VecOf<T>::type;
  constexpr int64_t kStep = sizeof(V) / sizeof(T), kPageBytes = 4096, kPage = kPageBytes / sizeof(T);
  T best = static_cast<T>(-INFINITY);
  int64_t index = -1;
  V top = V{} + best;
  int64_t i = first;
  while (i + kStep <= last) {
    __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(h + i) + kPageBytes));
    const int64_t stop = i + kPage < last - kStep + 1 ? i + kPage : last - kStep + 1;
    for (; i < stop; i += kStep) {
      if (!any_lane(load<V>(h + i) > top)) continue;
      for (int64_t l = i; l < i + kStep; ++l) {
        if (h[l] > best) {
          best = h[l];
          index = l;
        }
      }
      top = V{} + best;
    }
  }
  for (; i < last; ++i) {
    if (h[i] > best) {
      best = h[i];
      index = i;
    }
  }
  if (index >= 0) return index;
  for (i = first; i < last; ++i) {
    if (h[i] == best) return i;  // -inf
  }
  return -1;
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
