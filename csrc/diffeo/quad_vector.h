// float32 quad fields with border clamp, a vector of voxels at a time: AVX2 and AVX-512 from one source. Locations are
// found for kQuads voxels at once; a voxel's eight corners are then four loads of two neighbours along x.
#pragma once
#include "../common/lanes.h"
#include "quad_math.h"

namespace medsynth {

constexpr int64_t kSegment = 512;  // voxels of a row that are done at a time

// The planes (first axis) that the samples of a piece of a row read, or their adjoint writes: [low, high].
struct PlaneRange {
  int64_t low, high;
};

}  // namespace medsynth

#ifdef __AVX2__
namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

constexpr int kQuads = kLanes / 4;  // voxels in a vector

typedef float Pair __attribute__((vector_size(32)));  // two neighbours along x
typedef float Four __attribute__((vector_size(16)));  // one voxel

#define MEDSYNTH_INLINE inline __attribute__((always_inline))

MEDSYNTH_INLINE Pair fused(Pair a, Pair b, Pair c) { return _mm256_fmadd_ps(a, b, c); }
MEDSYNTH_INLINE Four fused(Four a, Four b, Four c) { return _mm_fmadd_ps(a, b, c); }
template <class V>
MEDSYNTH_INLINE V lerp(V a, V b, V w) {
  return fused(w, b - a, a);
}
MEDSYNTH_INLINE Four left_of(Pair a) { return _mm256_castps256_ps128(a); }
MEDSYNTH_INLINE Four right_of(Pair a) { return _mm256_extractf128_ps(a, 1); }

// Walks along a row, kQuads voxels a step.
class QuadWalk {
 public:
  struct Located {
    VecF inside;  // the location relative to the voxel, moved inside the grid; a NaN stays
    VecI corner;  // coordinates of the lower corner
    VecF weight;  // of the upper corner
    VecI base;    // the lower corner's voxel, in all four lanes
  };

  QuadWalk(const QuadGrid& g, int64_t z, int64_t y, int64_t x)
      : dy(g.ny > 1 ? 4 * g.nx : 0), dz(g.nz > 1 ? 4 * g.ny * g.nx : 0), place_(quads(z, y, x)) {
    for (int i = 0; i < kQuads; ++i) place_[4 * i + 2] += i;
    low_ = -to_float(place_);
    high_ = to_float(quads(g.nz - 1, g.ny - 1, g.nx - 1) - place_);
    last_ = quads(g.nz - 2, g.ny - 2, g.nx - 2);
    stride_ = quads(g.ny * g.nx, g.nx, 1);
    ahead_ = quads(0, 0, kQuads);
  }
  // What the walk needs: 32-bit indices and coordinates that float32 holds exactly.
  static bool fits(const QuadGrid& g) {
    constexpr int64_t kExact = int64_t{1} << 24;
    return g.nx >= 2 && g.nz < kExact && g.ny < kExact && g.nx < kExact && g.voxels() < (int64_t{1} << 31);
  }

  // Locates the voxels whose displacements are `u` and steps on. The location relative to the voxel is u itself, so
  // nothing is lost far from the origin.
  MEDSYNTH_INLINE Located locate(VecF u) {
    const VecF inside = smaller(high_, larger(low_, u));
    VecI k = floor_to_int(inside) + place_;
    k = k < last_ ? k : last_;
    k = k > 0 ? k : VecI{};
    const VecI line = k * stride_;
    const VecI sum = line + swap_pairs(line);
    const VecF weight = inside - to_float(k - place_);
    place_ += ahead_;
    const VecF ahead = to_float(ahead_);
    low_ -= ahead;
    high_ -= ahead;
    return {inside, k, weight, sum + swap_neighbours(sum)};
  }

  const int64_t dy, dz;  // floats to the upper corners

 private:
  static VecI quads(int64_t z, int64_t y, int64_t x) {
    VecI v{};
    for (int i = 0; i < kLanes; i += 4) {
      v[i] = static_cast<int32_t>(z);
      v[i + 1] = static_cast<int32_t>(y);
      v[i + 2] = static_cast<int32_t>(x);
    }
    return v;
  }
#ifdef __AVX512F__
  static MEDSYNTH_INLINE VecI swap_pairs(VecI a) {
    return bit_copy<VecI>(_mm512_shuffle_epi32(bit_copy<__m512i>(a), _MM_PERM_BADC));
  }
  static MEDSYNTH_INLINE VecI swap_neighbours(VecI a) {
    return bit_copy<VecI>(_mm512_shuffle_epi32(bit_copy<__m512i>(a), _MM_PERM_CDAB));
  }
#else
  static MEDSYNTH_INLINE VecI swap_pairs(VecI a) {
    return bit_copy<VecI>(_mm256_shuffle_epi32(bit_copy<__m256i>(a), 0x4E));
  }
  static MEDSYNTH_INLINE VecI swap_neighbours(VecI a) {
    return bit_copy<VecI>(_mm256_shuffle_epi32(bit_copy<__m256i>(a), 0xB1));
  }
#endif

  VecI place_, last_, stride_, ahead_;
  VecF low_, high_;
};

// Where the voxels of a piece of a row sample: four numbers a voxel, in the lanes z, y, x and one unused. Kept in
// memory between locating and sampling: a broadcast from there costs no more than a load, and corners can be
// prefetched.
struct QuadCells {
  alignas(64) float weight[4 * kSegment];
  alignas(64) int32_t base[4 * kSegment];

  MEDSYNTH_INLINE QuadWalk::Located keep(int64_t i, const QuadWalk::Located& l) {
    store(weight + i, l.weight);
    store(base + i, l.base);
    return l;
  }
};

// The four rows of a cell, lower and upper corner along x side by side.
struct CellRows {
  Pair near_low, near_high, far_low, far_high;

  MEDSYNTH_INLINE CellRows(const float* p, const QuadWalk& walk)
      : near_low(load<Pair>(p)),
        near_high(load<Pair>(p + walk.dy)),
        far_low(load<Pair>(p + walk.dz)),
        far_high(load<Pair>(p + walk.dz + walk.dy)) {}
};

#ifdef __AVX512F__
// field at four locations. Two voxels share a vector along y and z, so that it is full; along x all four do.
MEDSYNTH_INLINE VecF sample_four(const float* field, const QuadWalk& walk, const QuadWalk::Located& at) {
  const auto two = [](const float* a, const float* b) {
    return VecF(_mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(a)), _mm256_loadu_ps(b), 1));
  };
  const auto mix = [](VecF a, VecF b, VecF w) { return VecF(_mm512_fmadd_ps(w, b - a, a)); };
  const auto plane = [&](const float* a, const float* b, VecF wy, VecF wz) {
    const int64_t dy = walk.dy, dz = walk.dz;
    const VecF near = mix(two(a, b), two(a + dy, b + dy), wy);
    return mix(near, mix(two(a + dz, b + dz), two(a + dz + dy, b + dz + dy), wy), wz);
  };
  const __m512i every_fourth = _mm512_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
  const __m128i four = _mm512_castsi512_si128(_mm512_permutexvar_epi32(every_fourth, bit_copy<__m512i>(at.base)));
  const uint64_t low = static_cast<uint64_t>(_mm_cvtsi128_si64(four));
  const uint64_t high = static_cast<uint64_t>(_mm_extract_epi64(four, 1));
  const __m512i y01 = _mm512_setr_epi32(1, 1, 1, 1, 1, 1, 1, 1, 5, 5, 5, 5, 5, 5, 5, 5), one = _mm512_set1_epi32(1);
  const __m512i y23 = _mm512_add_epi32(y01, _mm512_set1_epi32(8));
  const auto weight = [&](__m512i lanes) { return VecF(_mm512_permutexvar_ps(lanes, at.weight)); };
  const VecF a =
      plane(field + 4 * (low & 0xFFFFFFFFu), field + 4 * (low >> 32), weight(y01), weight(_mm512_sub_epi32(y01, one)));
  const VecF b = plane(field + 4 * (high & 0xFFFFFFFFu), field + 4 * (high >> 32), weight(y23),
                       weight(_mm512_sub_epi32(y23, one)));
  return mix(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xDD),
             _mm512_shuffle_ps(at.weight, at.weight, 0xAA));
}
#endif

// Writes u(x) + field(x + u(x)) for the whole vectors among n voxels; returns how many were done.
template <bool kStream>
int64_t step_vectors(const Quad<float>* disp, const Quad<float>* field, const QuadGrid& g, int64_t z, int64_t y,
                     int64_t x, int64_t n, Quad<float>* out) {
  const float *u = reinterpret_cast<const float*>(disp), *f = reinterpret_cast<const float*>(field);
  float* o = reinterpret_cast<float*>(out);
  QuadWalk walk(g, z, y, x);
  const int64_t whole = n / kQuads * kQuads;
#ifdef __AVX512F__
  for (int64_t i = 0; i < 4 * whole; i += kLanes) {
    const VecF at = load<VecF>(u + i);
    const VecF sum = at + sample_four(f, walk, walk.locate(at));
    if constexpr (kStream) {
      _mm512_stream_ps(o + i, sum);
    } else {
      store(o + i, sum);
    }
  }
#else
  QuadCells cells;
  for (int64_t i = 0; i < 4 * whole; i += kLanes) cells.keep(i, walk.locate(load<VecF>(u + i)));
  for (int64_t j = 0; j < 4 * whole; j += 4) {
    const float* w = cells.weight + j;
    const CellRows rows(f + 4 * int64_t{cells.base[j]}, walk);
    const Pair wy = _mm256_broadcast_ss(w + 1);
    const Pair value = lerp<Pair>(lerp(rows.near_low, rows.near_high, wy), lerp(rows.far_low, rows.far_high, wy),
                                  _mm256_broadcast_ss(w));
    const Four sum = load<Four>(u + j) + lerp<Four>(left_of(value), right_of(value), _mm_broadcast_ss(w + 2));
    if constexpr (kStream) {
      _mm_stream_ps(o + j, sum);
    } else {
      store(o + j, sum);
    }
  }
#endif
  return whole;
}

// {sum of a, sum of b, sum of c, 0}; lane 3 of each half must be 0.
MEDSYNTH_INLINE Four sums_of(Pair a, Pair b, Pair c) {
  const Pair ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));  // a02 b02 a13 b13
  const Pair cc = _mm256_add_ps(c, _mm256_permute_ps(c, 0xCE));                       // c02 c13
  const Pair sums = _mm256_add_ps(_mm256_shuffle_ps(ab, cc, 0xC4), _mm256_shuffle_ps(ab, cc, 0xDE));
  return left_of(sums) + right_of(sums);
}

// Writes grad(x) + d(field(x + u(x)))/du^T grad(x) for the whole vectors among n voxels and widens `range`; returns how
// many were done.
inline int64_t pull_back_vectors(const Quad<float>* disp, const Quad<float>* field, const Quad<float>* grad,
                                 const QuadGrid& g, int64_t z, int64_t y, int64_t x, int64_t n, Quad<float>* out,
                                 PlaneRange& range) {
  const float *u = reinterpret_cast<const float*>(disp), *f = reinterpret_cast<const float*>(field);
  const float* v = reinterpret_cast<const float*>(grad);
  float* o = reinterpret_cast<float*>(out);
  QuadWalk walk(g, z, y, x);
  QuadCells cells;
  alignas(64) float slope[4 * kSegment];  // 1, beyond the border 0, NaN for a NaN
  const int64_t whole = n / kQuads * kQuads;
  VecI low = splat<VecI>(static_cast<int32_t>(g.nz)), high = -low;
  for (int64_t i = 0; i < 4 * whole; i += kLanes) {
    const VecF at = load<VecF>(u + i);
    const QuadWalk::Located l = cells.keep(i, walk.locate(at));
    store(slope + i, at == l.inside ? splat<VecF>(1.0f) : l.inside - l.inside);
    low = l.corner < low ? l.corner : low;
    high = l.corner > high ? l.corner : high;
  }
  for (int i = 0; i < kLanes; i += 4) {
    range.low = low[i] < range.low ? low[i] : range.low;
    range.high = high[i] > range.high ? high[i] : range.high;
  }
  for (int64_t j = 0; j < 4 * whole; j += 4) {
    const float* w = cells.weight + j;
    const CellRows rows(f + 4 * int64_t{cells.base[j]}, walk);
    const Pair wy = _mm256_broadcast_ss(w + 1), wz = _mm256_broadcast_ss(w);
    const Pair near_y = rows.near_high - rows.near_low, far_y = rows.far_high - rows.far_low;
    const Pair near = fused(wy, near_y, rows.near_low), by_z = fused(wy, far_y, rows.far_low) - near;
    const Pair by_y = lerp<Pair>(near_y, far_y, wz), value = fused(wz, by_z, near);
    const Four g4 = load<Four>(v + j), right = g4 * Four(_mm_broadcast_ss(w + 2));
    const Pair both = _mm256_set_m128(g4, -g4), weighted = _mm256_set_m128(right, g4 - right);
    const Four pulled = sums_of(by_z * weighted, by_y * weighted, value * both);
    store(o + j, fused(pulled, load<Four>(slope + j), g4));
  }
  return whole;
}

// The weights of a cell's four rows, in the order of CellRows.
MEDSYNTH_INLINE VecF row_weights(VecF upper) {
  const VecF lower = 1.0f - upper;
#ifdef __AVX512F__
  return _mm512_shuffle_ps(lower, upper, 0x00) * VecF(_mm512_permute_ps(_mm512_unpacklo_ps(lower, upper), 0xEE));
#else
  return _mm256_shuffle_ps(lower, upper, 0x00) * VecF(_mm256_permute_ps(_mm256_unpacklo_ps(lower, upper), 0xEE));
#endif
}

// out += the sampling weights times grad, for the whole vectors among n voxels and the planes [begin, end) only, which
// kAll says are all that occur; returns how many voxels were done. Corners are added one by one: neighbouring voxels
// share them, and a wider load would wait for the store before it.
template <bool kAll>
int64_t scatter_vectors(const Quad<float>* disp, const Quad<float>* grad, const QuadGrid& g, int64_t z, int64_t y,
                        int64_t x, int64_t n, int64_t begin, int64_t end, Quad<float>* out) {
  const float *u = reinterpret_cast<const float*>(disp), *v = reinterpret_cast<const float*>(grad);
  float* o = reinterpret_cast<float*>(out);
  QuadWalk walk(g, z, y, x);
  QuadCells cells;
  alignas(64) float row[4 * kSegment];
  alignas(64) int32_t corner[4 * kSegment];
  const int64_t whole = n / kQuads * kQuads;
  for (int64_t i = 0; i < 4 * whole; i += kLanes) {
    store(corner + i, cells.keep(i, walk.locate(load<VecF>(u + i))).corner);
    store(row + i, row_weights(load<VecF>(cells.weight + i)));
  }
  for (int64_t j = 0; j < 4 * whole; j += 4) {
    const Four g4 = load<Four>(v + j), wx = _mm_broadcast_ss(cells.weight + j + 2);
    const Four right = g4 * wx, left = g4 * (1.0f - wx);
    float* p = o + 4 * int64_t{cells.base[j]};
    const auto add = [&](float* to, const float* weight) {
      const Four w = _mm_broadcast_ss(weight);
      store(to, fused(left, w, load<Four>(to)));
      store(to + 4, fused(right, w, load<Four>(to + 4)));
    };
    if (kAll || (corner[j] >= begin && corner[j] < end)) {
      add(p, row + j);
      add(p + walk.dy, row + j + 1);
    }
    if (kAll || (walk.dz != 0 && corner[j] + 1 >= begin && corner[j] + 1 < end)) {
      add(p + walk.dz, row + j + 2);
      add(p + walk.dz + walk.dy, row + j + 3);
    }
  }
  return whole;
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
#endif
