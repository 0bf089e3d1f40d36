// The band matrix of one axis, stored for the two ways in which the CPU loops read it; host only.
#pragma once
#include "gaussian_blur_math.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

constexpr int64_t kRows = 4;  // outputs along the axis that share their loads

// Bump allocator over a workspace whose size was counted before.
struct Arena {
  char* next;

  template <class T>
  T* take(int64_t count) {
    T* p = reinterpret_cast<T*>(next);
    next += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
    return p;
  }
};

// Rows of the band with kRows - 1 zeros on both sides: weight of input q in output i is at(i)[q - i], also for the
// neighbours of i in one block of kRows outputs.
template <class T>
struct Band {
  int64_t n, r, stride;  // r = 0: axis inactive
  T* rows;

  static int64_t bytes(int64_t n, int64_t r) {
    return (n + kRows) * (2 * r + 2 * kRows - 1) * static_cast<int64_t>(sizeof(T)) + 64;
  }
  T* at(int64_t i) const { return rows + i * stride + kRows - 1 + r; }
  int64_t first(int64_t i) const { return i - r > 0 ? i - r : 0; }
  int64_t last(int64_t i) const { return i + r < n - 1 ? i + r : n - 1; }
};

template <class T>
Band<T> make_band(const GaussianBlurParams& p, int64_t n, double sigma, Arena& arena) {
  const int64_t taps = blur_radius(sigma, p.truncate), r = taps < n - 1 ? taps : n - 1;
  Band<T> band{n, r, 2 * r + 2 * kRows - 1, nullptr};
  if (r == 0 && taps == 0) return band;
  band.rows = arena.take<T>((n + kRows) * band.stride);
  for (int64_t i = 0; i < (n + kRows) * band.stride; ++i) band.rows[i] = 0;
  double sum = 0;
  for (int64_t k = -taps; k <= taps; ++k) sum += blur_weight(k, sigma);
  for (int64_t k = -taps; k <= taps; ++k) {
    const T w = static_cast<T>(blur_weight(k, sigma) / sum);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t j = blur_source(i + k, n, p.border);
      if (j < 0) continue;
      if (p.transposed) {
        band.at(j)[i - j] += w;
      } else {
        band.at(i)[j - i] += w;
      }
    }
  }
  return band;
}

// The same band for contiguous lines: blocks of kLanes outputs. Inner blocks share one row of taps; a block near an end
// (or the last, partly filled one) has its own table of weights, (inputs, kLanes).
template <class T>
struct LineBand {
  static constexpr int64_t kBlock = kVectorBytes / static_cast<int64_t>(sizeof(T));
  int64_t n, r, blocks;
  const T* taps;          // 2 r + 1
  const T** block_table;  // per block: its own table or null

  static int64_t bytes(int64_t n, int64_t r) {
    const int64_t blocks = (n + kBlock - 1) / kBlock;
    const int64_t own = 2 * (r / kBlock + 2) < blocks ? 2 * (r / kBlock + 2) : blocks;
    return (2 * r + 1) * static_cast<int64_t>(sizeof(T)) + blocks * 8 + 256 +
           own * ((kBlock + 2 * r) * kBlock * static_cast<int64_t>(sizeof(T)) + 64);
  }
  int64_t first(int64_t i0) const { return i0 - r > 0 ? i0 - r : 0; }
  int64_t last(int64_t i0) const { return i0 + kBlock - 1 + r < n - 1 ? i0 + kBlock - 1 + r : n - 1; }
  // Strictly inside: with reflect, the transposed band differs from the taps up to output r itself.
  bool inner(int64_t i0) const { return i0 - r > 0 && i0 + kBlock - 1 + r < n - 1; }
};

template <class T>
LineBand<T> make_line_band(const Band<T>& band, Arena& arena) {
  using Line = LineBand<T>;
  Line line{band.n, band.r, (band.n + Line::kBlock - 1) / Line::kBlock, nullptr, nullptr};
  if (band.rows == nullptr) return line;
  line.block_table = arena.take<const T*>(line.blocks);
  for (int64_t block = 0; block < line.blocks; ++block) {
    const int64_t i0 = block * Line::kBlock;
    line.block_table[block] = nullptr;
    if (line.inner(i0)) {
      if (line.taps == nullptr) {
        T* taps = arena.take<T>(2 * line.r + 1);
        for (int64_t k = -line.r; k <= line.r; ++k) taps[k + line.r] = band.at(i0)[k];
        line.taps = taps;
      }
      continue;
    }
    const int64_t first = line.first(i0), last = line.last(i0);
    T* table = arena.take<T>((last - first + 1) * Line::kBlock);
    for (int64_t q = first; q <= last; ++q) {
      for (int64_t l = 0; l < Line::kBlock; ++l) {
        const int64_t i = i0 + l, distance = q - i;
        table[(q - first) * Line::kBlock + l] =
            i < line.n && distance >= -line.r && distance <= line.r ? band.at(i)[distance] : T{0};
      }
    }
    line.block_table[block] = table;
  }
  return line;
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
