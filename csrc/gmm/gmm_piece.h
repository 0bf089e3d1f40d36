// The CPU loop that gmm_sample and synth_image share: intensities of a run of voxels of one plane (b, c).
#pragma once
#include "../common/normal_group.h"
#include "../common/workspace.h"
#include "gmm_sample_math.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

constexpr int64_t kRun = 2048;  // voxels at a time: the noise of a run stays in the first-level cache

// Gaussians of every known label value and one more entry, without class, for all others.
template <class T>
struct GaussianTables {
  int64_t known, stride;
  Gaussian<T>* entries;  // (B * C, stride)

  // Builds them in workspace `slot`.
  GaussianTables(const GmmSampleParams& p, int slot) : known(p.known()), stride(known + 1) {
    const int64_t planes = p.batch * p.channels;
    entries = static_cast<Gaussian<T>*>(workspace(slot, planes * stride * static_cast<int64_t>(sizeof(Gaussian<T>))));
    for (int64_t b = 0; b < p.batch; ++b) {
      for (int64_t c = 0; c < p.channels; ++c) {
        Gaussian<T>* table = entries + (b * p.channels + c) * stride;
        for (int64_t label = 0; label <= known; ++label)
          table[label] = gaussian_of<T>(p, b, c, static_cast<uint64_t>(label));
      }
    }
  }
  const Gaussian<T>* plane(int64_t index) const { return entries + index * stride; }
};

// y[i] = mean + std y[i] with the Gaussian of labels[i]; returns whether some label had no class.
template <class T, class L>
bool apply_scalar(const L* labels, const Gaussian<T>* table, int64_t known, const T* noise, T* y, int64_t n) {
  bool bad = false;
  for (int64_t i = 0; i < n; ++i) {
    const uint64_t label = label_value(labels[i]);
    const Gaussian<T> g = table[label < static_cast<uint64_t>(known) ? label : static_cast<uint64_t>(known)];
    bad |= g.mean != g.mean;
    y[i] = intensity(g, noise[i]);
  }
  return bad;
}

template <class L>
bool apply(const L* labels, const Gaussian<double>* table, int64_t known, const double* noise, double* y, int64_t n,
           bool) {
  return apply_scalar(labels, table, known, noise, y, n);
}

#if defined(__AVX512F__)
template <size_t Bytes>
struct LabelBits;
template <>
struct LabelBits<1> {
  using type = uint8_t;
};
template <>
struct LabelBits<2> {
  using type = uint16_t;
};
template <>
struct LabelBits<4> {
  using type = uint32_t;
};
template <>
struct LabelBits<8> {
  using type = uint64_t;
};

// Sixteen labels, as they are.
template <class L>
inline __attribute__((always_inline)) __m512i load_labels(const L* labels) {
  if constexpr (sizeof(L) == 1) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(labels)));
  } else if constexpr (sizeof(L) == 2) {
    return _mm512_cvtepi16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(labels)));
  } else if constexpr (sizeof(L) == 4) {
    return _mm512_loadu_si512(labels);
  } else {
    const __m256i low = _mm512_cvtepi64_epi32(_mm512_loadu_si512(labels));
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), _mm512_cvtepi64_epi32(_mm512_loadu_si512(labels + 8)), 1);
  }
}

// Sixteen labels; unknown ones become `known`.
template <class L>
inline __attribute__((always_inline)) __m512i load_limited(const L* labels, __m512i known) {
  if constexpr (sizeof(L) == 8) {
    const __m512i limit = _mm512_cvtepu32_epi64(_mm512_castsi512_si256(known));
    const __m256i low = _mm512_cvtepi64_epi32(_mm512_min_epu64(_mm512_loadu_si512(labels), limit));
    const __m256i high = _mm512_cvtepi64_epi32(_mm512_min_epu64(_mm512_loadu_si512(labels + 8), limit));
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
  } else {
    return _mm512_min_epu32(load_labels(labels), known);
  }
}

// Whether all labels are in [0, known).
template <class L>
bool all_known(const L* labels, int64_t n, int64_t known) {
  using U = LabelBits<sizeof(L)>;
  typename U::type most = 0;
  for (int64_t i = 0; i < n; ++i) {
    typename U::type label;
    __builtin_memcpy(&label, labels + i, sizeof label);
    most = label > most ? label : most;
  }
  return most < static_cast<uint64_t>(known);
}

// Up to 64 Gaussians in eight registers.
struct RegisterTable {
  __m512 mean[4], std[4];
  bool whole = true;  // every entry has a class

  RegisterTable(const Gaussian<float>* table, int64_t entries) {
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    const auto load = [&](int64_t from) {
      const int64_t left = 2 * entries - from;
      const auto mask = static_cast<__mmask16>(left >= 16 ? 0xFFFF : left > 0 ? (1 << left) - 1 : 0);
      return _mm512_maskz_loadu_ps(mask, reinterpret_cast<const float*>(table) + from);
    };
    for (int i = 0; i < 4; ++i) {
      const __m512 low = load(32 * i), high = load(32 * i + 16);
      mean[i] = _mm512_permutex2var_ps(low, even, high);
      std[i] = _mm512_permutex2var_ps(low, odd, high);
      whole = whole && _mm512_cmp_ps_mask(mean[i], mean[i], _CMP_UNORD_Q) == 0;
    }
  }
  // With entries in the first `Registers` registers only: 2, 3 or 4.
  template <int Registers>
  inline __attribute__((always_inline)) void look_up(__m512i index, __m512& m, __m512& s) const {
    m = _mm512_permutex2var_ps(mean[0], index, mean[1]);
    s = _mm512_permutex2var_ps(std[0], index, std[1]);
    for (int i = 2; i < Registers; ++i) {
      const __mmask16 above = _mm512_cmpge_epu32_mask(index, _mm512_set1_epi32(16 * i));
      m = _mm512_mask_permutexvar_ps(m, above, index, mean[i]);
      s = _mm512_mask_permutexvar_ps(s, above, index, std[i]);
    }
  }
};

inline __attribute__((always_inline)) void gather_gaussians(const Gaussian<float>* table, __m512i index, __m512& m,
                                                            __m512& s) {
  const __m512d low = _mm512_i32gather_pd(_mm512_castsi512_si256(index), table, 8);
  const __m512d high = _mm512_i32gather_pd(_mm512_extracti64x4_epi64(index, 1), table, 8);
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
  m = _mm512_permutex2var_ps(_mm512_castpd_ps(low), even, _mm512_castpd_ps(high));
  s = _mm512_permutex2var_ps(_mm512_castpd_ps(low), odd, _mm512_castpd_ps(high));
}

// y[i] = value(i) sixteen at a time.
template <class Value>
inline __attribute__((always_inline)) void write_values(float* y, int64_t n, bool stream, Value value) {
  if (stream) {
    for (int64_t i = 0; i < n; i += 16) _mm512_stream_ps(y + i, value(i));
  } else {
    for (int64_t i = 0; i < n; i += 16) _mm512_storeu_ps(y + i, value(i));
  }
}

// For labels that all have a class.
template <int Registers, class L>
void apply_registers(const L* labels, const RegisterTable& registers, const float* noise, float* y, int64_t n,
                     bool stream) {
  const RegisterTable table = registers;
  write_values(y, n, stream, [&](int64_t i) {
    __m512 m, s;
    table.look_up<Registers>(load_labels(labels + i), m, s);
    return _mm512_fmadd_ps(s, _mm512_loadu_ps(noise + i), m);
  });
}

template <class L>
bool apply_gather(const L* labels, const Gaussian<float>* table, int64_t known, const float* noise, float* y, int64_t n,
                  bool stream) {
  const __m512i limit = _mm512_set1_epi32(static_cast<int>(known));
  __mmask16 bad = 0;
  write_values(y, n, stream, [&](int64_t i) {
    __m512 m, s;
    gather_gaussians(table, load_limited(labels + i, limit), m, s);
    bad |= _mm512_cmp_ps_mask(m, m, _CMP_UNORD_Q);
    return _mm512_fmadd_ps(s, _mm512_loadu_ps(noise + i), m);
  });
  return bad != 0;
}

template <class L>
bool apply(const L* labels, const Gaussian<float>* table, int64_t known, const float* noise, float* y, int64_t n,
           bool stream) {
  const int64_t whole = n & ~int64_t{15};
  const bool streamed = stream && (reinterpret_cast<uintptr_t>(y) & 63) == 0;
  bool bad = false;
  const RegisterTable registers(table, known <= 64 ? known : 0);
  if (known <= 64 && registers.whole && all_known(labels, whole, known)) {
    const auto with = known <= 32 ? apply_registers<2, L> : known <= 48 ? apply_registers<3, L> : apply_registers<4, L>;
    with(labels, registers, noise, y, whole, streamed);
  } else {
    bad = apply_gather(labels, table, known, noise, y, whole, streamed);
  }
  return apply_scalar(labels + whole, table, known, noise + whole, y + whole, n - whole) || bad;
}
#else
template <class L>
bool apply(const L* labels, const Gaussian<float>* table, int64_t known, const float* noise, float* y, int64_t n,
           bool) {
  return apply_scalar(labels, table, known, noise, y, n);
}
#endif

// Remembers the first voxel without class.
inline void note_bad(int64_t* bad, int64_t found) {
  int64_t before = __atomic_load_n(bad, __ATOMIC_RELAXED);
  while (found < before &&
         !__atomic_compare_exchange_n(bad, &before, found, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
}

// Calls body(b, c, segment, begin, end) for runs of at most kRun voxels that together cover all planes; begin and end
// count inside the segment, and runs begin at block borders of the virtual grid where they can.
template <class Body>
void for_each_run(const GmmSampleParams& p, int64_t begin, int64_t end, int64_t runs, Body body) {
  for (int64_t item = begin; item < end; ++item) {
    const int64_t run = item % runs, segment = item / runs % p.grid.segments(), plane = item / runs / p.grid.segments();
    const int64_t skip = p.grid.first(segment) & 3;
    const int64_t from = run * kRun - skip < 0 ? 0 : run * kRun - skip;
    const int64_t to = (run + 1) * kRun - skip < p.grid.length ? (run + 1) * kRun - skip : p.grid.length;
    if (from < to) body(plane / p.channels, plane % p.channels, segment, from, to);
  }
}

inline int64_t runs_per_segment(const GmmSampleParams& p) { return (p.grid.length + 3 + kRun - 1) / kRun; }

// Asks for the labels of a run, and for the addresses of the pages of its output: the noise is drawn while they come. A
// page's address takes long to find, and stores past the caches wait for it. Always inlined: GCC 12 drops calls of a
// function that only prefetches.
template <class T, class L>
inline __attribute__((always_inline)) void ask_for_run(const L* labels, const T* out, int64_t n) {
  for (int64_t i = 0; i < n; i += 64 / static_cast<int64_t>(sizeof(L))) __builtin_prefetch(labels + i);
  for (int64_t i = 0; i < n; i += 4096 / static_cast<int64_t>(sizeof(T))) __builtin_prefetch(out + i);
  if (n > 0) __builtin_prefetch(out + n - 1);
}

// Intensities of one run, to out; labels and out begin at its first voxel.
template <class T, class L>
void gmm_run(const GmmSampleParams& p, const GaussianTables<T>& tables, int64_t b, int64_t c, int64_t segment,
             int64_t begin, int64_t end, T* out, bool stream) {
  alignas(64) T noise[kRun];
  const int64_t n = end - begin;
  const int64_t x = segment * p.grid.length + begin;  // voxel inside the plane
  const L* labels = static_cast<const L*>(p.labels) + b * p.grid.elements() + x;
  ask_for_run(labels, out, n);
  fill_normals(plane_key(p, b, c), p.grid.first(segment) + begin, n, noise);
  const Gaussian<T>* table = tables.plane(b * p.channels + c);
  const bool bad = apply(labels, table, tables.known, noise, out, n, stream);
  if (!bad || p.bad == nullptr || c != 0) return;
  for (int64_t i = 0; i < n; ++i) {
    if (p.class_of(label_value(labels[i])) < 0) return note_bad(p.bad, b * p.grid.elements() + x + i);
  }
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
