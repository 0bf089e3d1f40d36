// float32 locations of a chunk, a vector at a time: AVX2 and AVX-512 from one source. What the border's rules make of
// locations outside the grid is left to the general code, voxel by voxel.
#pragma once
#include "../common/lanes.h"
#include "warp_rows.h"

#ifdef __AVX2__
namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

#define MEDSYNTH_INLINE inline __attribute__((always_inline))

static_assert(kChunk == 64, "a chunk's voxels are the bits of a number");

// The voxels among the first `count` of a chunk.
inline uint64_t first_bits(int count) { return count < 64 ? (uint64_t{1} << count) - 1 : ~uint64_t{0}; }

// Calls f(k) for the bits that are set, in order.
template <class F>
inline void each_bit(uint64_t bits, const F& f) {
  for (; bits != 0; bits &= bits - 1) f(__builtin_ctzll(bits));
}

// The cells of a chunk's locations, moved inside the grid: element of the lowest corner and weights of the upper ones.
// A NaN location has NaN weights.
struct CellChunk {
  alignas(64) int32_t first[kChunk];
  alignas(64) float weight[3][kChunk];
  uint64_t general;  // voxels that the general code must do
};

// The nearest elements of a chunk's locations, moved inside the grid.
struct NearestChunk {
  alignas(64) int32_t element[kChunk];
  uint64_t outside;  // voxels whose location is outside the grid
  uint64_t lost;     // voxels whose location is NaN
};

// The source of a warp whose elements 32-bit indices reach.
class VectorGrid {
 public:
  explicit VectorGrid(const WarpParams& p)
      : step{p.src_size[0] > 1 ? p.src_size[1] * p.src_size[2] : 0, p.src_size[1] > 1 ? p.src_size[2] : 0, 1},
        voxels(p.src_size[0] * p.src_size[1] * p.src_size[2]),
        flat(p.src_size[0] == 1),
        border_(p.border) {
    stride_[0] = splat<VecI>(static_cast<int32_t>(p.src_size[1] * p.src_size[2]));
    stride_[1] = splat<VecI>(static_cast<int32_t>(p.src_size[2]));
    stride_[2] = splat<VecI>(1);
    for (int d = 0; d < 3; ++d) {
      size_[d] = p.src_size[d];
      last_[d] = splat<VecI>(static_cast<int32_t>(p.src_size[d] - 1));
    }
  }
  // Whether the vector code may be used at all; linear sampling needs two columns.
  static bool fits(const WarpParams& p) {
    constexpr int64_t kExact = int64_t{1} << 23;
    const int64_t *n = p.src_size, most = (int64_t{1} << 31) - 1;
    return n[0] < kExact && n[1] < kExact && n[2] < kExact && n[0] * n[1] <= most && n[0] * n[1] * n[2] <= most;
  }

  // Fill in the whole chunk; false when its base is too far from the grid.
  bool locate(const Chunk<float>& chunk, CellChunk& cells) const {
    if (!near(chunk)) return false;
    const Bounds bounds(*this, chunk);
    cells.general = 0;
    for (int k = 0; k < chunk.count; k += kLanes) {
      VecI first{};
      uint32_t general = 0;
      for (int d = 0; d < 3; ++d) {
        const VecF at = load<VecF>(chunk.local[d] + k);
        const VecF q = smaller(bounds.high[d], larger(bounds.low[d], at));  // in this order a NaN stays
        const VecI zero{}, cell = last_[d] - 1;
        VecI i = floor_to_int(q) + bounds.base[d];
        i = i < cell ? i : cell;
        i = i > zero ? i : zero;
        store(cells.weight[d] + k, q - to_float(i - bounds.base[d]));
        first += i * stride_[d];
        if (border_ == Border::zeros) general |= lane_bits(~((at >= bounds.low[d]) & (at < bounds.high[d])));
        if (border_ == Border::reflect) general |= lane_bits(at != q);
      }
      store(cells.first + k, first);
      cells.general |= static_cast<uint64_t>(general) << k;
    }
    cells.general &= first_bits(chunk.count);
    return true;
  }

  bool locate(const Chunk<float>& chunk, NearestChunk& nearest) const {
    if (!near(chunk)) return false;
    const Bounds bounds(*this, chunk);
    nearest.outside = nearest.lost = 0;
    for (int k = 0; k < chunk.count; k += kLanes) {
      VecI element{};
      uint32_t outside = 0, lost = 0;
      for (int d = 0; d < 3; ++d) {
        const VecF at = load<VecF>(chunk.local[d] + k);
        const VecF q = smaller(larger(at, bounds.low[d]), bounds.high[d]);  // a NaN becomes voxel 0
        element += (round_to_int(q) + bounds.base[d]) * stride_[d];
        lost |= lane_bits(at != at);
        if (border_ == Border::clamp) continue;
        const VecF r = to_float(round_to_int(at));
        outside |= lane_bits((r < bounds.low[d]) | (r > bounds.high[d]));
      }
      store(nearest.element + k, element);
      nearest.outside |= static_cast<uint64_t>(outside) << k;
      nearest.lost |= static_cast<uint64_t>(lost) << k;
    }
    nearest.outside &= first_bits(chunk.count);
    nearest.lost &= first_bits(chunk.count);
    return true;
  }

  // Zeroes the gradient to locations beyond the border, where clamping makes the value constant.
  void clear_beyond(const Chunk<float>& chunk, float grad[3][kChunk]) const {
    const Bounds bounds(*this, chunk);
    for (int d = 0; d < 3; ++d) {
      for (int k = 0; k < chunk.count; k += kLanes) {
        const VecF at = load<VecF>(chunk.local[d] + k), g = load<VecF>(grad[d] + k);
        store(grad[d] + k, (at < bounds.low[d]) | (at > bounds.high[d]) ? VecF{} : g);
      }
    }
  }

  const int64_t step[3];  // to the upper corner
  const int64_t voxels;
  const bool flat;  // one plane

 private:
  // The grid in a chunk's local coordinates.
  struct Bounds {
    VecF low[3], high[3];
    VecI base[3];

    Bounds(const VectorGrid& g, const Chunk<float>& chunk) {
      for (int d = 0; d < 3; ++d) {
        base[d] = splat<VecI>(static_cast<int32_t>(chunk.base[d]));
        low[d] = to_float(-base[d]);
        high[d] = to_float(g.last_[d] - base[d]);
      }
    }
  };

  static bool near(const Chunk<float>& chunk) {
    constexpr int64_t kExact = int64_t{1} << 23;
    bool all = true;
    for (const int64_t b : chunk.base) all = all && b > -kExact && b < kExact;
    return all;
  }

  Border border_;
  int64_t size_[3];
  VecI last_[3], stride_[3];
};

typedef float Eight __attribute__((vector_size(32)));

// The corners along x of eight cells: v[first] and v[first + 1], two loads of a pair side by side.
MEDSYNTH_INLINE void load_pairs(const float* v, const int32_t* first, Eight& lower, Eight& upper) {
  const auto two = [&](int a, int b) {
    double low, high;  // copied: a pair of floats need not be aligned as a double is
    __builtin_memcpy(&low, v + first[a], sizeof low);
    __builtin_memcpy(&high, v + first[b], sizeof high);
    return _mm_castpd_ps(_mm_set_pd(high, low));
  };
  const __m256 even = _mm256_set_m128(two(4, 5), two(0, 1)), odd = _mm256_set_m128(two(6, 7), two(2, 3));
  lower = _mm256_shuffle_ps(even, odd, 0x88);
  upper = _mm256_shuffle_ps(even, odd, 0xDD);
}

MEDSYNTH_INLINE Eight lerp8(Eight a, Eight b, Eight w) { return _mm256_fmadd_ps(b - a, w, a); }

// The values at cells k to k + 7.
MEDSYNTH_INLINE Eight linear8(const VectorGrid& g, const float* v, const CellChunk& cells, int k) {
  const Eight wz = load<Eight>(cells.weight[0] + k), wy = load<Eight>(cells.weight[1] + k);
  const Eight wx = load<Eight>(cells.weight[2] + k);
  const auto row = [&](const float* at) {
    Eight a, b;
    load_pairs(at, cells.first + k, a, b);
    return lerp8(a, b, wx);
  };
  const Eight low = lerp8(row(v), row(v + g.step[1]), wy);
  if (g.flat) return low;
  const float* deep = v + g.step[0];
  return lerp8(low, lerp8(row(deep), row(deep + g.step[1]), wy), wz);
}

// Adds `weight` times the derivative of eight values to their locations.
MEDSYNTH_INLINE void add_gradient8(const VectorGrid& g, const float* v, const CellChunk& cells, int k, Eight weight,
                                   Eight grad[3]) {
  const Eight wz = load<Eight>(cells.weight[0] + k), wy = load<Eight>(cells.weight[1] + k);
  const Eight wx = load<Eight>(cells.weight[2] + k);
  Eight line[2][2], slope[2][2];
  for (int z = 0; z < 2; ++z) {
    for (int y = 0; y < 2; ++y) {
      Eight a, b;
      load_pairs(v + z * g.step[0] + y * g.step[1], cells.first + k, a, b);
      line[z][y] = lerp8(a, b, wx);
      slope[z][y] = b - a;
    }
  }
  const Eight low = lerp8(line[0][0], line[0][1], wy), high = lerp8(line[1][0], line[1][1], wy);
  const Eight dy = lerp8(line[0][1] - line[0][0], line[1][1] - line[1][0], wz);
  const Eight dx = lerp8(lerp8(slope[0][0], slope[0][1], wy), lerp8(slope[1][0], slope[1][1], wy), wz);
  grad[0] = _mm256_fmadd_ps(weight, high - low, grad[0]);
  grad[1] = _mm256_fmadd_ps(weight, dy, grad[1]);
  grad[2] = _mm256_fmadd_ps(weight, dx, grad[2]);
}

// Asks for the lines of elements. Always inlined: GCC 12 drops calls of a function that only prefetches.
template <class E>
MEDSYNTH_INLINE void prefetch(const E* v, const int32_t* element, int count) {
  constexpr int kApart = 16 / static_cast<int>(sizeof(E));  // a quarter of a line
  for (int k = 0; k < count; k += kApart) __builtin_prefetch(v + element[k]);
}

// Asks for the upper lines of the cells that the next row will probably read, or add to: those at `first` moved by
// `ahead`. The lower ones have been in use.
template <bool kWrite, class E>
MEDSYNTH_INLINE void prefetch_next_row(const VectorGrid& g, const E* v, const int32_t* first, int count,
                                       int64_t ahead) {
  constexpr int kApart = 32 / static_cast<int>(sizeof(E));
  for (int k = 0; k < count; k += kApart) {
    const auto ask = [&](int64_t step) {  // may lie outside the volume
      const auto at = reinterpret_cast<uintptr_t>(v) + static_cast<uintptr_t>(first[k] + ahead + step) * sizeof(E);
      __builtin_prefetch(reinterpret_cast<const void*>(at), kWrite);
    };
    ask(g.step[1]);
    ask(g.step[0] + g.step[1]);
  }
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
#endif
