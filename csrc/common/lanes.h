// One formula for one number and for a vector of numbers: the few operations that elementary.h and normal.h are written
// in, for float and double scalars (host and device) and, on the host, for vectors as wide as the instruction set.
//
// Every operation is one IEEE operation (fma_of rounds once), so a formula gives the same bits in every width and on
// every device.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "isa.h"

#if !defined(__CUDACC__) && defined(__AVX2__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 warns about its own header
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

MEDSYNTH_HD float fma_of(float a, float b, float c) {
#ifdef __CUDA_ARCH__
  return __fmaf_rn(a, b, c);
#else
  return __builtin_fmaf(a, b, c);
#endif
}
MEDSYNTH_HD double fma_of(double a, double b, double c) {
#ifdef __CUDA_ARCH__
  return __fma_rn(a, b, c);
#else
  return __builtin_fma(a, b, c);
#endif
}
MEDSYNTH_HD float sqrt_of(float a) {
#ifdef __CUDA_ARCH__
  return __fsqrt_rn(a);
#else
  return __builtin_sqrtf(a);
#endif
}
MEDSYNTH_HD double sqrt_of(double a) {
#ifdef __CUDA_ARCH__
  return __dsqrt_rn(a);
#else
  return __builtin_sqrt(a);
#endif
}

// The larger and the smaller; b when one is NaN or both are zero. One instruction where written so.
MEDSYNTH_HD float larger(float a, float b) { return a > b ? a : b; }
MEDSYNTH_HD float smaller(float a, float b) { return a < b ? a : b; }
MEDSYNTH_HD double larger(double a, double b) { return a > b ? a : b; }
MEDSYNTH_HD double smaller(double a, double b) { return a < b ? a : b; }

template <class To, class From>
MEDSYNTH_HD To bit_copy(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}

// Number types that belong together: F values, I signed and U unsigned integers of the same width and count.
template <class F>
struct LaneTypes;
template <>
struct LaneTypes<float> {
  using I = int32_t;
  using U = uint32_t;
};
template <>
struct LaneTypes<double> {
  using I = int64_t;
  using U = uint64_t;
};

MEDSYNTH_HD float to_float(int32_t i) { return static_cast<float>(i); }
MEDSYNTH_HD double to_float(int64_t i) { return static_cast<double>(i); }

#ifndef __CUDACC__

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
constexpr int kLanes = kVectorBytes / 4;  // floats in a vector

typedef float VecF __attribute__((vector_size(kVectorBytes)));
typedef int32_t VecI __attribute__((vector_size(kVectorBytes)));
typedef uint32_t VecU __attribute__((vector_size(kVectorBytes)));
typedef double VecD __attribute__((vector_size(kVectorBytes)));

template <>
struct LaneTypes<VecF> {
  using I = VecI;
  using U = VecU;
};

template <class T>
struct VecOf;
template <>
struct VecOf<float> {
  using type = VecF;
};
template <>
struct VecOf<double> {
  using type = VecD;
};

inline __attribute__((always_inline)) VecF to_float(VecI i) { return __builtin_convertvector(i, VecF); }

#if defined(__AVX512F__)
inline __attribute__((always_inline)) VecF fma_of(VecF a, VecF b, VecF c) { return _mm512_fmadd_ps(a, b, c); }
inline __attribute__((always_inline)) VecD fma_of(VecD a, VecD b, VecD c) { return _mm512_fmadd_pd(a, b, c); }
inline __attribute__((always_inline)) VecF sqrt_of(VecF a) { return _mm512_sqrt_ps(a); }
inline __attribute__((always_inline)) VecF larger(VecF a, VecF b) { return _mm512_max_ps(a, b); }
inline __attribute__((always_inline)) VecF smaller(VecF a, VecF b) { return _mm512_min_ps(a, b); }
#elif defined(__AVX2__)
inline __attribute__((always_inline)) VecF fma_of(VecF a, VecF b, VecF c) { return _mm256_fmadd_ps(a, b, c); }
inline __attribute__((always_inline)) VecD fma_of(VecD a, VecD b, VecD c) { return _mm256_fmadd_pd(a, b, c); }
inline __attribute__((always_inline)) VecF sqrt_of(VecF a) { return _mm256_sqrt_ps(a); }
inline __attribute__((always_inline)) VecF larger(VecF a, VecF b) { return _mm256_max_ps(a, b); }
inline __attribute__((always_inline)) VecF smaller(VecF a, VecF b) { return _mm256_min_ps(a, b); }
#else
inline __attribute__((always_inline)) VecF fma_of(VecF a, VecF b, VecF c) {
  for (int i = 0; i < kLanes; ++i) a[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return a;
}
inline __attribute__((always_inline)) VecD fma_of(VecD a, VecD b, VecD c) {
  for (int i = 0; i < kLanes / 2; ++i) a[i] = __builtin_fma(a[i], b[i], c[i]);
  return a;
}
inline __attribute__((always_inline)) VecF sqrt_of(VecF a) {
  for (int i = 0; i < kLanes; ++i) a[i] = __builtin_sqrtf(a[i]);
  return a;
}
inline __attribute__((always_inline)) VecF larger(VecF a, VecF b) { return a > b ? a : b; }
inline __attribute__((always_inline)) VecF smaller(VecF a, VecF b) { return a < b ? a : b; }
#endif

// Loads and stores at any address; the compiler turns them into single unaligned instructions.
template <class V, class T>
inline __attribute__((always_inline)) V load(const T* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
template <class V, class T>
inline __attribute__((always_inline)) void store(T* p, V v) {
  __builtin_memcpy(p, &v, sizeof v);
}

#ifdef __AVX2__
// Integers of floats, rounded down or half to even; the smallest integer for what does not fit and for a NaN.
inline __attribute__((always_inline)) VecI floor_to_int(VecF a) {
#ifdef __AVX512F__
  return bit_copy<VecI>(_mm512_cvt_roundps_epi32(a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC));
#else
  return bit_copy<VecI>(_mm256_cvttps_epi32(_mm256_floor_ps(a)));
#endif
}
inline __attribute__((always_inline)) VecI round_to_int(VecF a) {
#ifdef __AVX512F__
  return bit_copy<VecI>(_mm512_cvtps_epi32(a));
#else
  return bit_copy<VecI>(_mm256_cvtps_epi32(a));
#endif
}
// One bit per lane of what a comparison gave.
inline __attribute__((always_inline)) uint32_t lane_bits(VecI mask) {
#ifdef __AVX512F__
  return _mm512_movepi32_mask(bit_copy<__m512i>(mask));
#else
  return static_cast<uint32_t>(_mm256_movemask_ps(bit_copy<__m256>(mask)));
#endif
}
#endif

#endif  // __CUDACC__

// The same constant in every lane.
template <class F, class C>
MEDSYNTH_HD F splat(C c) {
  return F{} + c;
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
