// Loops over pieces of rows of a quad field, for the CPU: pack, unpack, one composition step and its two adjoint parts.
#pragma once
#include "../common/parallel.h"
#include "quad_math.h"

#ifdef __AVX512F__
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // false alarms inside GCC 12's own header
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

constexpr int64_t kSegment = 512;            // voxels of a row that are done at a time
constexpr int64_t kVoxelsPerTask = 1 << 14;  // least work for a thread
constexpr int64_t kSmallSample = 1 << 15;    // below, threads share the batch and not the sample

// A grid cut into pieces of rows, numbered in memory order.
struct Segments {
  QuadGrid grid;
  int64_t per_row, count, grain;

  explicit Segments(const QuadGrid& g)
      : grid(g),
        per_row((g.nx + kSegment - 1) / kSegment),
        count(g.nz * g.ny * per_row),
        grain(kVoxelsPerTask / (g.nx < kSegment ? g.nx : kSegment) + 1) {}

  struct Piece {
    int64_t z, y, x, n, begin;
  };

  Piece at(int64_t i) const {
    const int64_t row = i / per_row, x = (i - row * per_row) * kSegment;
    const int64_t left = grid.nx - x;
    return {row / grid.ny, row % grid.ny, x, left < kSegment ? left : kSegment, row * grid.nx + x};
  }

  // Calls f(piece, i) for all pieces, in parallel.
  template <class F>
  void each(F f) const {
    parallel_for(0, count, grain, [&](int64_t b, int64_t e) {
      for (int64_t i = b; i < e; ++i) f(at(i), i);
    });
  }
};

// Calls f(sample) for the batch: threads share small samples whole, large ones inside.
template <class F>
void each_sample(int64_t batch, int64_t voxels, F f) {
  if (voxels <= kSmallSample) {
    parallel_for(0, batch, voxels ? kVoxelsPerTask / voxels + 1 : 1, [&](int64_t b, int64_t e) {
      for (int64_t i = b; i < e; ++i) f(i);
    });
    return;
  }
  for (int64_t i = 0; i < batch; ++i) f(i);
}

// planar: the first component's sample, components `voxels` apart.
template <class T>
void pack_segment(const T* planar, const QuadGrid& g, int64_t begin, int64_t n, T scale, Quad<T>* out) {
  const int64_t voxels = g.voxels();
  const T* a = planar + begin;
  if (g.dims == 3) {
    const T *b = a + voxels, *c = b + voxels;
    for (int64_t i = 0; i < n; ++i) out[i] = make_quad(a[i] * scale, b[i] * scale, c[i] * scale);
  } else if (g.dims == 2) {
    const T* c = a + voxels;
    for (int64_t i = 0; i < n; ++i) out[i] = make_quad(a[i] * scale, T(0), c[i] * scale);
  } else {
    for (int64_t i = 0; i < n; ++i) out[i] = make_quad(T(0), T(0), a[i] * scale);
  }
}

template <class T>
void unpack_segment(const Quad<T>* in, const QuadGrid& g, int64_t begin, int64_t n, T scale, T* planar) {
  const int64_t voxels = g.voxels();
  T* a = planar + begin;
  if (g.dims == 3) {
    T *b = a + voxels, *c = b + voxels;
    for (int64_t i = 0; i < n; ++i) {
      a[i] = in[i][0] * scale;
      b[i] = in[i][1] * scale;
      c[i] = in[i][2] * scale;
    }
  } else {
    for (int c = 0; c < g.dims; ++c) {
      const int lane = g.lane(c);
      for (int64_t i = 0; i < n; ++i) a[c * voxels + i] = in[i][lane] * scale;
    }
  }
}

template <Border B, class T>
MEDSYNTH_HD Cell<T> locate_any(const QuadGrid& g, const Quad<T>& u, int64_t z, int64_t y, int64_t x) {
  if constexpr (B == Border::clamp) {
    return locate_clamp(g, u, z, y, x);
  } else {
    return locate<B>(g, u, z, y, x);
  }
}

#ifdef __AVX512F__
// Four voxels at a time; returns how many were done. Needs nx >= 2, axes below 2^24 and fewer than 2^31 voxels.
template <bool kStream>
inline int64_t step_clamp_avx512(const Quad<float>* disp, const Quad<float>* field, const QuadGrid& g, int64_t z,
                                 int64_t y, int64_t x, int64_t n, Quad<float>* out) {
  const float *d = reinterpret_cast<const float*>(disp), *f = reinterpret_cast<const float*>(field);
  float* o = reinterpret_cast<float*>(out);
  const auto quads = [](float a, float b, float c) { return _mm512_broadcast_f32x4(_mm_setr_ps(a, b, c, 0.0f)); };
  const auto iquads = [](int64_t a, int64_t b, int64_t c) {
    return _mm512_broadcast_i32x4(_mm_setr_epi32(static_cast<int>(a), static_cast<int>(b), static_cast<int>(c), 0));
  };
  const float fx = static_cast<float>(x);
  __m512 at = _mm512_add_ps(quads(static_cast<float>(z), static_cast<float>(y), fx),
                            _mm512_setr_ps(0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0));
  const __m512 ahead = quads(0.0f, 0.0f, 4.0f), zero = _mm512_setzero_ps();
  const __m512 last = quads(static_cast<float>(g.nz - 1), static_cast<float>(g.ny - 1), static_cast<float>(g.nx - 1));
  const __m512i far = iquads(g.nz - 2, g.ny - 2, g.nx - 2), strides = iquads(g.ny * g.nx, g.nx, 1);
  const __m512i every_fourth = _mm512_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
  const __m512i y01 = _mm512_setr_epi32(1, 1, 1, 1, 1, 1, 1, 1, 5, 5, 5, 5, 5, 5, 5, 5);
  const __m512i step8 = _mm512_set1_epi32(8), step1 = _mm512_set1_epi32(1);
  const __m512i y23 = _mm512_add_epi32(y01, step8), z01 = _mm512_sub_epi32(y01, step1);
  const __m512i z23 = _mm512_sub_epi32(y23, step1);
  const int64_t dy = g.ny > 1 ? 4 * g.nx : 0, dz = g.nz > 1 ? 4 * g.ny * g.nx : 0;
  const auto two = [](const float* a, const float* b) {
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(a)), _mm256_loadu_ps(b), 1);
  };
  const auto lerp = [](__m512 a, __m512 b, __m512 w) { return _mm512_fmadd_ps(w, _mm512_sub_ps(b, a), a); };
  const auto plane = [&](const float* a, const float* b, __m512 wy, __m512 wz) {
    const __m512 near = lerp(two(a, b), two(a + dy, b + dy), wy);
    return lerp(near, lerp(two(a + dz, b + dz), two(a + dz + dy, b + dz + dy), wy), wz);
  };
  int64_t i = 0;
  for (; i + 4 <= n; i += 4, at = _mm512_add_ps(at, ahead)) {
    const __m512 u = _mm512_loadu_ps(d + 4 * i);
    // max and min return their second argument when one is NaN, so NaN passes through.
    const __m512 c = _mm512_min_ps(last, _mm512_max_ps(zero, _mm512_add_ps(u, at)));
    const __m512i k = _mm512_max_epi32(_mm512_min_epi32(_mm512_cvttps_epi32(c), far), _mm512_setzero_si512());
    const __m512 w = _mm512_sub_ps(c, _mm512_cvtepi32_ps(k));
    __m512i cell = _mm512_mullo_epi32(k, strides);
    cell = _mm512_add_epi32(cell, _mm512_shuffle_epi32(cell, _MM_PERM_BADC));
    cell = _mm512_add_epi32(cell, _mm512_shuffle_epi32(cell, _MM_PERM_CDAB));
    const __m128i four = _mm512_castsi512_si128(_mm512_permutexvar_epi32(every_fourth, cell));
    const uint64_t low = static_cast<uint64_t>(_mm_cvtsi128_si64(four));
    const uint64_t high = static_cast<uint64_t>(_mm_extract_epi64(four, 1));
    const float *p0 = f + 4 * (low & 0xFFFFFFFFu), *p1 = f + 4 * (low >> 32);
    const float *p2 = f + 4 * (high & 0xFFFFFFFFu), *p3 = f + 4 * (high >> 32);
    const __m512 a = plane(p0, p1, _mm512_permutexvar_ps(y01, w), _mm512_permutexvar_ps(z01, w));
    const __m512 b = plane(p2, p3, _mm512_permutexvar_ps(y23, w), _mm512_permutexvar_ps(z23, w));
    const __m512 left = _mm512_shuffle_f32x4(a, b, 0x88), right = _mm512_shuffle_f32x4(a, b, 0xDD);
    const __m512 r = _mm512_add_ps(u, lerp(left, right, _mm512_shuffle_ps(w, w, 0xAA)));
    if constexpr (kStream) {
      _mm512_stream_ps(o + 4 * i, r);
    } else {
      _mm512_storeu_ps(o + 4 * i, r);
    }
  }
  return i;
}
#endif

// out(x) = u(x) + field(x + u(x)) for n voxels from (z, y, x); disp and out point at the first of them. `stream` writes
// past the caches: right for a field that does not fit there.
template <Border B, class T>
void step_segment(const Quad<T>* disp, const Quad<T>* field, const QuadGrid& g, int64_t z, int64_t y, int64_t x,
                  int64_t n, Quad<T>* out, [[maybe_unused]] bool stream) {
  int64_t i = 0;
#ifdef __AVX512F__
  if constexpr (B == Border::clamp && sizeof(T) == 4) {
    constexpr int64_t kExact = int64_t{1} << 24;
    if (g.nx >= 2 && g.nz < kExact && g.ny < kExact && g.nx < kExact && g.voxels() < (int64_t{1} << 31)) {
      i = stream && reinterpret_cast<uintptr_t>(out) % 64 == 0
              ? step_clamp_avx512<true>(disp, field, g, z, y, x, n, out)
              : step_clamp_avx512<false>(disp, field, g, z, y, x, n, out);
    }
  }
#endif
  for (; i < n; ++i) out[i] = disp[i] + sample_quad<B>(field, locate_any<B>(g, disp[i], z, y, x + i));
}

// The planes (first axis) that a piece's samples read, or its adjoint writes: [low, high].
struct PlaneRange {
  int64_t low, high;
};

// out(x) = grad(x) + d(field(x + u(x)))/du^T grad(x): the part of the adjoint that stays where it is.
template <Border B, class T>
PlaneRange pull_back_segment(const Quad<T>* disp, const Quad<T>* field, const Quad<T>* grad, const QuadGrid& g,
                             int64_t z, int64_t y, int64_t x, int64_t n, Quad<T>* out) {
  PlaneRange r{g.nz, -1};
  for (int64_t i = 0; i < n; ++i) {
    const Cell<T> c = locate_any<B>(g, disp[i], z, y, x + i);
    out[i] = grad[i] + pull_back_to_location<B>(field, c, grad[i]);
    r.low = c.plane < r.low ? c.plane : r.low;
    r.high = c.plane > r.high ? c.plane : r.high;
  }
  r.high = r.high + 1 < g.nz ? r.high + 1 : r.high;
  return r;
}

// field-shaped out += the sampling weights times grad, for the planes [begin, end) only.
template <Border B, class T>
void scatter_segment(const Quad<T>* disp, const Quad<T>* grad, const QuadGrid& g, int64_t z, int64_t y, int64_t x,
                     int64_t n, int64_t begin, int64_t end, Quad<T>* out) {
  for (int64_t i = 0; i < n; ++i) {
    const Cell<T> c = locate_any<B>(g, disp[i], z, y, x + i);
    const Quad<T> left = grad[i] * c.w0[2], right = grad[i] * c.w1[2];
    Quad<T>* plane = out + c.base;
    const auto row = [&](Quad<T>* p, T weight) {
      p[0] = multiply_add(left, weight, p[0]);
      if (c.dx) p[1] = multiply_add(right, weight, p[1]);
    };
    if (c.plane >= begin && c.plane < end) {
      row(plane, c.w0[0] * c.w0[1]);
      if (c.dy) row(plane + c.dy, c.w0[0] * c.w1[1]);
    }
    if (c.dz && c.plane + 1 >= begin && c.plane + 1 < end) {
      row(plane + c.dz, c.w1[0] * c.w0[1]);
      if (c.dy) row(plane + c.dz + c.dy, c.w1[0] * c.w1[1]);
    }
  }
}

// The whole scatter. Each thread owns planes of `out` and goes through the pieces that reach them in memory order, so
// every sum has the same order whatever the number of threads. `ranges` comes from pull_back_segment.
template <Border B, class T>
void scatter(const Segments& segments, const PlaneRange* ranges, const Quad<T>* disp, const Quad<T>* grad,
             Quad<T>* out) {
  const QuadGrid& g = segments.grid;
  const int64_t plane_voxels = g.ny * g.nx;
  parallel_for(0, g.nz, 2 * kVoxelsPerTask / plane_voxels + 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = 0; i < segments.count; ++i) {
      if (ranges[i].high < begin || ranges[i].low >= end) continue;
      const Segments::Piece s = segments.at(i);
      scatter_segment<B>(disp + s.begin, grad + s.begin, g, s.z, s.y, s.x, s.n, begin, end, out);
    }
  });
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
