#if defined(__AVX512F__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12's own headers
#include <immintrin.h>
#endif

#include <cmath>

#include "../common/dispatch.h"
#include "../common/parallel.h"
#include "../common/workspace.h"
#include "resample.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {
namespace {

constexpr int64_t kPad = 32;       // elements that may be read behind a row
constexpr int64_t kRowBlock = 32;  // output rows that one task makes when planes need no mixing

// The taps of one axis for one sample.
template <class T>
struct Axis {
  const int32_t* count;
  const int32_t* index;
  const T* weight;
  int64_t width;

  Axis(const AxisTable& t, int64_t b)
      : count(t.count + b * t.stride),
        index(t.index + b * t.stride * t.width),
        weight(static_cast<const T*>(t.weight) + b * t.stride * t.width),
        width(t.width) {}
};

// to[k] = sum over the taps of output i of weight * from[index * stride + k].
template <class T>
void mix_rows(const Axis<T>& axis, int64_t i, const T* from, int64_t stride, int64_t n, T* to) {
  const int32_t* index = axis.index + i * axis.width;
  const T* weight = axis.weight + i * axis.width;
  const int count = axis.count[i];
  int t = 0;
  if (count >= 2) {
    const T *a = from + index[0] * stride, *b = from + index[1] * stride;
    const T wa = weight[0], wb = weight[1];
#pragma omp simd
    for (int64_t k = 0; k < n; ++k) to[k] = std::fma(wb, b[k], wa * a[k]);
    t = 2;
  } else if (count == 1) {
    const T* a = from + index[0] * stride;
    const T wa = weight[0];
#pragma omp simd
    for (int64_t k = 0; k < n; ++k) to[k] = wa * a[k];
    t = 1;
  } else {
    for (int64_t k = 0; k < n; ++k) to[k] = T(0);
  }
  for (; t < count; ++t) {
    const T* a = from + index[t] * stride;
    const T wa = weight[t];
#pragma omp simd
    for (int64_t k = 0; k < n; ++k) to[k] = std::fma(wa, a[k], to[k]);
  }
}

#if defined(__AVX512F__)
// Sixteen outputs of at most two taps whose inputs lie within 32 neighbours; false when they do not. `limit` is how far
// `from` may be read.
inline bool mix16(const Axis<float>& axis, int64_t x, const float* from, int64_t limit, __m512& out) {
  const __m512i two = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i one = _mm512_add_epi32(two, _mm512_set1_epi32(1));
  const int32_t* index = axis.index + 2 * x;
  const int32_t base = index[0];
  if (base + 32 > limit) return false;
  const __m512i i0 = _mm512_loadu_si512(index), i1 = _mm512_loadu_si512(index + 16);
  const __m512i shift = _mm512_set1_epi32(base);
  const __m512i a = _mm512_sub_epi32(_mm512_permutex2var_epi32(i0, two, i1), shift);
  const __m512i b = _mm512_sub_epi32(_mm512_permutex2var_epi32(i0, one, i1), shift);
  const __m512 w0 = _mm512_loadu_ps(axis.weight + 2 * x), w1 = _mm512_loadu_ps(axis.weight + 2 * x + 16);
  const __m512 wa = _mm512_permutex2var_ps(w0, two, w1), wb = _mm512_permutex2var_ps(w0, one, w1);
  const __mmask16 single = _mm512_cmpeq_epi32_mask(_mm512_loadu_si512(axis.count + x), _mm512_set1_epi32(1));
  const __m512i far = _mm512_set1_epi32(31);
  const __mmask16 wide =
      _mm512_cmpgt_epu32_mask(a, far) | _mm512_mask_cmpgt_epu32_mask(static_cast<__mmask16>(~single), b, far);
  const __mmask16 none = _mm512_cmpeq_epi32_mask(_mm512_loadu_si512(axis.count + x), _mm512_setzero_si512());
  if (wide != 0 || none != 0) return false;
  const __m512 low = _mm512_loadu_ps(from + base), high = _mm512_loadu_ps(from + base + 16);
  const __m512 va = _mm512_mul_ps(wa, _mm512_permutex2var_ps(low, a, high));
  out = _mm512_mask_fmadd_ps(_mm512_permutex2var_ps(low, b, high), static_cast<__mmask16>(~single), wb, va);
  out = _mm512_mask_mov_ps(out, single, va);
  return true;
}
#endif

// One row along the last axis. `readable` elements of `from` may be read.
template <class T>
void mix_columns(const Axis<T>& axis, const T* from, int64_t readable, int64_t n, T* to) {
  int64_t x = 0;
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    if (axis.width == 2) {
      for (; x + 16 <= n; x += 16) {
        __m512 v;
        if (mix16(axis, x, from, readable, v)) {
          _mm512_storeu_ps(to + x, v);
          continue;
        }
        for (int64_t i = x; i < x + 16; ++i) {
          T sum = T(0);
          for (int t = 0; t < axis.count[i]; ++t)
            sum = std::fma(axis.weight[2 * i + t], from[axis.index[2 * i + t]], sum);
          to[i] = sum;
        }
      }
    }
  }
#else
  static_cast<void>(readable);
#endif
  for (; x < n; ++x) {
    const int32_t* index = axis.index + x * axis.width;
    const T* weight = axis.weight + x * axis.width;
    T sum = T(0);
    for (int t = 0; t < axis.count[x]; ++t) sum = std::fma(weight[t], from[index[t]], sum);
    to[x] = sum;
  }
}

// Where the memory ends that holds the rows of `plane`: the input's, or that of the mixed plane.
template <class T>
const T* row_end(const ResampleParams& p, const T* x, const T* plane, const T* plane_buffer, int64_t b, int64_t c) {
  const int64_t plane_voxels = p.in_size[1] * p.in_size[2];
  if (plane == plane_buffer) return plane_buffer + plane_voxels;
  return x + (p.batch * p.channels - b * p.channels - c) * p.in_size[0] * plane_voxels;
}

// The output rows [y0, y1) of plane z of channel c of sample b.
template <class T>
void make_rows(const ResampleParams& p, int64_t b, int64_t c, int64_t z, int64_t y0, int64_t y1) {
  const int64_t width = p.in_size[2], lines = p.in_size[1], out_width = p.out_size[2];
  const uint8_t* same = p.same + b * p.same_stride;
  const T* x = static_cast<const T*>(p.x) + (b * p.channels + c) * p.in_size[0] * lines * width;
  T* out = static_cast<T*>(p.out) + ((b * p.channels + c) * p.out_size[0] + z) * p.out_size[1] * out_width;
  const int64_t scratch = lines * width + width + p.middle + 3 * kPad;
  T* plane_buffer = static_cast<T*>(workspace(1, scratch * static_cast<int64_t>(sizeof(T))));
  T* row_buffer = plane_buffer + lines * width + kPad;
  T* low_buffer = row_buffer + width + kPad;
  const Axis<T> az(p.axis[0], b), ay(p.axis[1], b), ax(p.axis[2], b);
  const T* plane = x + z * lines * width;
  if (!same[0]) {
    mix_rows(az, z, x, lines * width, lines * width, plane_buffer);
    plane = plane_buffer;
  }
  const T scale = p.scaled ? static_cast<T>(p.scale[c]) : T(1);
  for (int64_t y = y0; y < y1; ++y) {
    T* to = out + y * out_width;
    const T* row = plane + y * width;
    if (!same[1]) {
      T* mixed = same[2] ? to : row_buffer;
      mix_rows(ay, y, plane, width, width, mixed);
      row = mixed;
    }
    const int64_t readable = row == row_buffer ? width + kPad : row_end(p, x, plane, plane_buffer, b, c) - row;
    if (same[2]) {
      if (row != to) __builtin_memcpy(to, row, static_cast<size_t>(width) * sizeof(T));
    } else if (p.first.count != nullptr) {
      mix_columns(Axis<T>(p.first, b), row, readable, p.middle, low_buffer);
      mix_columns(Axis<T>(p.second, b), low_buffer, p.middle + kPad, out_width, to);
    } else {
      mix_columns(ax, row, readable, out_width, to);
    }
    if (p.scaled) {
      for (int64_t k = 0; k < out_width; ++k) to[k] *= scale;
    }
  }
}

template <class T>
void resample_any(const ResampleParams& p) {
  bool flat = true;
  for (int64_t b = 0; b < (p.same_stride != 0 ? p.batch : 1); ++b) flat = flat && p.same[b * p.same_stride] != 0;
  const int64_t rows = p.out_size[1], block = flat ? kRowBlock : (rows > 0 ? rows : 1);
  const int64_t blocks = (rows + block - 1) / block, planes = p.out_size[0];
  parallel_for(0, p.batch * p.channels * planes * blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t y0 = i % blocks * block, plane = i / blocks;
      const int64_t y1 = y0 + block < rows ? y0 + block : rows;
      make_rows<T>(p, plane / planes / p.channels, plane / planes % p.channels, plane % planes, y0, y1);
    }
  });
}

}  // namespace
}  // namespace MEDSYNTH_ISA_NAMESPACE

MEDSYNTH_DEFINE_CPU(resample, ResampleParams, p) {
  dispatch_float(p.real, [&](auto tag) { resample_any<decltype(tag)>(p); });
}

}  // namespace medsynth
