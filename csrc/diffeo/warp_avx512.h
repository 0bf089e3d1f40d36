// Sixteen float32 locations at a time.
#pragma once
#if defined(__AVX512F__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12's own headers
#include <immintrin.h>

#include "warp_rows.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

// The geometry of the source, ready for 32-bit element indices.
struct SourceGrid {
  __m512i last_cell[3];  // n-2, or 0
  __m512i row, column;   // elements per plane row, lines per plane
  int64_t step[3];       // to the upper corner
  int64_t voxels;
  bool flat;  // one plane

  explicit SourceGrid(const WarpParams& p) {
    for (int d = 0; d < 3; ++d)
      last_cell[d] = _mm512_set1_epi32(static_cast<int>(p.src_size[d] > 1 ? p.src_size[d] - 2 : 0));
    column = _mm512_set1_epi32(static_cast<int>(p.src_size[1]));
    row = _mm512_set1_epi32(static_cast<int>(p.src_size[2]));
    step[0] = p.src_size[0] > 1 ? p.src_size[1] * p.src_size[2] : 0;
    step[1] = p.src_size[1] > 1 ? p.src_size[2] : 0;
    step[2] = 1;
    voxels = p.src_size[0] * p.src_size[1] * p.src_size[2];
    flat = p.src_size[0] == 1;
  }
  // Whether 32-bit indices reach everything and the vector code may be used.
  static bool fits(const WarpParams& p) {
    return p.src_size[0] * p.src_size[1] * p.src_size[2] < (int64_t{1} << 31) - 64 && p.src_size[2] >= 2;
  }
};

// The chunk's bounds in local coordinates.
struct LocalBounds {
  __m512 low[3], high[3];
  __m512i base[3];
  bool fits;

  LocalBounds(const WarpParams& p, const int64_t chunk_base[3]) : fits(true) {
    for (int d = 0; d < 3; ++d) {
      const int64_t b = chunk_base[d];
      fits = fits && b > -(int64_t{1} << 23) && b < (int64_t{1} << 23) && p.src_size[d] < (int64_t{1} << 23);
      low[d] = _mm512_set1_ps(static_cast<float>(-b));
      high[d] = _mm512_set1_ps(static_cast<float>(p.src_size[d] - 1 - b));
      base[d] = _mm512_set1_epi32(static_cast<int>(b));
    }
  }
};

// Cells of sixteen locations that lie inside the grid (or are NaN): element of the lowest corner, weights.
struct Cells16 {
  __m512i first;
  __m512 w[3];
};

inline Cells16 cells16(const SourceGrid& g, const LocalBounds& bounds, const __m512 q[3]) {
  __m512i i[3];
  Cells16 c;
  for (int d = 0; d < 3; ++d) {
    const __m512i whole = _mm512_cvttps_epi32(_mm512_roundscale_ps(q[d], _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC));
    i[d] = _mm512_min_epi32(_mm512_max_epi32(_mm512_add_epi32(whole, bounds.base[d]), _mm512_setzero_si512()),
                            g.last_cell[d]);
    c.w[d] = _mm512_sub_ps(q[d], _mm512_cvtepi32_ps(_mm512_sub_epi32(i[d], bounds.base[d])));
  }
  c.first =
      _mm512_add_epi32(_mm512_mullo_epi32(_mm512_add_epi32(_mm512_mullo_epi32(i[0], g.column), i[1]), g.row), i[2]);
  return c;
}

// v[first] and v[first + 1] of sixteen elements.
inline void gather_pairs(const float* v, __m512i first, __m512& a, __m512& b) {
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
  const __m512 low = _mm512_castsi512_ps(_mm512_i32gather_epi64(_mm512_castsi512_si256(first), v, 4));
  const __m512 high = _mm512_castsi512_ps(_mm512_i32gather_epi64(_mm512_extracti64x4_epi64(first, 1), v, 4));
  a = _mm512_permutex2var_ps(low, even, high);
  b = _mm512_permutex2var_ps(low, odd, high);
}

inline __m512 lerp16(__m512 a, __m512 b, __m512 w) { return _mm512_fmadd_ps(_mm512_sub_ps(b, a), w, a); }

inline __m512 row16(const float* v, const Cells16& c) {
  __m512 a, b;
  gather_pairs(v, c.first, a, b);
  return lerp16(a, b, c.w[2]);
}

inline __m512 linear16(const SourceGrid& g, const float* v, const Cells16& c) {
  const __m512 low = lerp16(row16(v, c), row16(v + g.step[1], c), c.w[1]);
  if (g.flat) return low;
  const float* deep = v + g.step[0];
  return lerp16(low, lerp16(row16(deep, c), row16(deep + g.step[1], c), c.w[1]), c.w[0]);
}

// Adds g times the derivative of sixteen values to their locations.
inline void add_gradient16(const SourceGrid& g, const float* v, const Cells16& c, __m512 weight, __m512 grad[3]) {
  __m512 line[2][2], slope[2][2];
  for (int z = 0; z < 2; ++z) {
    for (int y = 0; y < 2; ++y) {
      __m512 a, b;
      gather_pairs(v + z * g.step[0] + y * g.step[1], c.first, a, b);
      line[z][y] = lerp16(a, b, c.w[2]);
      slope[z][y] = _mm512_sub_ps(b, a);
    }
  }
  const __m512 low = lerp16(line[0][0], line[0][1], c.w[1]), high = lerp16(line[1][0], line[1][1], c.w[1]);
  const __m512 dy = lerp16(_mm512_sub_ps(line[0][1], line[0][0]), _mm512_sub_ps(line[1][1], line[1][0]), c.w[0]);
  const __m512 dx = lerp16(lerp16(slope[0][0], slope[0][1], c.w[1]), lerp16(slope[1][0], slope[1][1], c.w[1]), c.w[0]);
  grad[0] = _mm512_fmadd_ps(weight, _mm512_sub_ps(high, low), grad[0]);
  grad[1] = _mm512_fmadd_ps(weight, dy, grad[1]);
  grad[2] = _mm512_fmadd_ps(weight, dx, grad[2]);
}

// Loads sixteen locations. With border clamp they are moved inside (NaN stays); else returns whether all are inside.
inline bool load_inside(const LocalBounds& bounds, Border border, const Chunk<float>& chunk, int k, __m512 q[3]) {
  __mmask16 inside = 0xFFFF;
  for (int d = 0; d < 3; ++d) {
    q[d] = _mm512_load_ps(chunk.local[d] + k);
    if (border == Border::clamp) {  // of a NaN and a number, min and max return the second operand
      q[d] = _mm512_min_ps(bounds.high[d], _mm512_max_ps(bounds.low[d], q[d]));
    } else {
      inside &= _mm512_cmp_ps_mask(q[d], bounds.low[d], _CMP_GE_OQ);
      inside &= border == Border::zeros ? _mm512_cmp_ps_mask(q[d], bounds.high[d], _CMP_LT_OQ)
                                        : _mm512_cmp_ps_mask(q[d], bounds.high[d], _CMP_LE_OQ);
    }
  }
  return inside == 0xFFFF;
}

struct Nearest16 {
  __m512i element;
  __mmask16 outside;  // takes the fill value
};

// Nearest elements of sixteen locations; false when the border rule needs the general code.
inline bool nearest16(const SourceGrid& g, const LocalBounds& bounds, Border border, const Chunk<float>& chunk, int k,
                      Nearest16& n) {
  __m512i i[3];
  n.outside = 0;
  for (int d = 0; d < 3; ++d) {
    __m512 r = _mm512_roundscale_ps(_mm512_load_ps(chunk.local[d] + k), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __mmask16 inside =
        _mm512_cmp_ps_mask(r, bounds.low[d], _CMP_GE_OQ) & _mm512_cmp_ps_mask(r, bounds.high[d], _CMP_LE_OQ);
    if (border == Border::reflect && inside != 0xFFFF) return false;
    if (border == Border::zeros) n.outside |= static_cast<__mmask16>(~inside);
    r = _mm512_min_ps(_mm512_max_ps(r, bounds.low[d]), bounds.high[d]);  // a NaN becomes voxel 0
    i[d] = _mm512_add_epi32(_mm512_cvttps_epi32(r), bounds.base[d]);
  }
  n.element =
      _mm512_add_epi32(_mm512_mullo_epi32(_mm512_add_epi32(_mm512_mullo_epi32(i[0], g.column), i[1]), g.row), i[2]);
  return true;
}

// Copies src[element] (or fill) to out for the lanes in `keep`; Bytes is the element size. A 32-bit read never passes
// the end of the volume: it is moved back and shifted.
template <int Bytes>
inline void copy16(const SourceGrid& g, const void* src, const Nearest16& n, uint64_t fill, __mmask16 keep, void* out) {
  if constexpr (Bytes == 8) {
    const __m512i f = _mm512_set1_epi64(static_cast<int64_t>(fill));
    const __m512i low = _mm512_i32gather_epi64(_mm512_castsi512_si256(n.element), src, 8);
    const __m512i high = _mm512_i32gather_epi64(_mm512_extracti64x4_epi64(n.element, 1), src, 8);
    int64_t* o = static_cast<int64_t*>(out);
    _mm512_mask_storeu_epi64(o, static_cast<__mmask8>(keep),
                             _mm512_mask_mov_epi64(low, static_cast<__mmask8>(n.outside), f));
    _mm512_mask_storeu_epi64(o + 8, static_cast<__mmask8>(keep >> 8),
                             _mm512_mask_mov_epi64(high, static_cast<__mmask8>(n.outside >> 8), f));
  } else {
    const __m512i f = _mm512_set1_epi32(static_cast<int32_t>(fill));
    __m512i v;
    if constexpr (Bytes == 4) {
      v = _mm512_i32gather_epi32(n.element, src, 4);
    } else {
      const __m512i at = _mm512_min_epi32(n.element, _mm512_set1_epi32(static_cast<int>(g.voxels - 4 / Bytes)));
      const __m512i shift = _mm512_slli_epi32(_mm512_sub_epi32(n.element, at), Bytes == 1 ? 3 : 4);
      v = _mm512_srlv_epi32(_mm512_i32gather_epi32(at, src, Bytes), shift);
    }
    v = _mm512_mask_mov_epi32(v, n.outside, f);
    if constexpr (Bytes == 4) _mm512_mask_storeu_epi32(out, keep, v);
    if constexpr (Bytes == 2) _mm512_mask_cvtepi32_storeu_epi16(out, keep, v);
    if constexpr (Bytes == 1) _mm512_mask_cvtepi32_storeu_epi8(out, keep, v);
  }
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
#endif
