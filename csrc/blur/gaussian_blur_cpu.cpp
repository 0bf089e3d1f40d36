// Two passes over the volume: z and x together, row by row through a scratch of four rows; then y in place, strip by
// strip.
#include "../common/dispatch.h"
#include "../common/parallel.h"
#include "../common/workspace.h"
#include "blur_band.h"

namespace medsynth {

namespace {

constexpr int64_t kStripRows = 4;  // rows of y that the first pass takes at once
constexpr int kVectors = kVectorBytes == 64 ? 4 : kVectorBytes == 32 ? 2 : 1;  // vectors of a row held in registers

#if defined(__AVX2__)
template <class V>
inline __attribute__((always_inline)) V add_product(V a, V b, V c) {
  return fma_of(a, b, c);
}
#else
template <class V>
inline __attribute__((always_inline)) V add_product(V a, V b, V c) {
  return a * b + c;
}
#endif

// out[j, 0..N vectors) = sum over q of weight(i + j, q) src[q, ...] for kRows outputs from i on; `rows` of them are
// stored.
template <class T, int N, class V>
inline __attribute__((always_inline)) void blend_block(const Band<T>& band, int64_t i, int64_t rows, const T* src,
                                                       int64_t stride, T* out, int64_t out_stride) {
  V sum[kRows][N] = {};
  const int64_t first = band.first(i), last = band.last(i + kRows - 1);
  const T* w[kRows];
  for (int64_t j = 0; j < kRows; ++j) w[j] = band.at(i + j) - (i + j);
  for (int64_t q = first; q <= last; ++q) {
    V in[N];
    for (int v = 0; v < N; ++v) in[v] = load<V>(src + q * stride + v * static_cast<int64_t>(sizeof(V) / sizeof(T)));
    MEDSYNTH_UNROLL
    for (int64_t j = 0; j < kRows; ++j) {
      const V weight = splat<V>(w[j][q]);
      for (int v = 0; v < N; ++v) sum[j][v] = add_product(weight, in[v], sum[j][v]);
    }
  }
  MEDSYNTH_UNROLL
  for (int64_t j = 0; j < kRows; ++j) {
    if (j >= rows) break;
    for (int v = 0; v < N; ++v)
      store(out + j * out_stride + v * static_cast<int64_t>(sizeof(V) / sizeof(T)), sum[j][v]);
  }
}

// kRows outputs of a strided axis over `width` neighbouring columns.
template <class T>
void blend_rows(const Band<T>& band, int64_t i, const T* src, int64_t stride, T* out, int64_t out_stride,
                int64_t width) {
  using V = typename VecOf<T>::type;
  constexpr int64_t kOne = sizeof(V) / sizeof(T);
  const int64_t rows = band.n - i < kRows ? band.n - i : kRows;
  int64_t x = 0;
  for (; x + kVectors * kOne <= width; x += kVectors * kOne) {
    blend_block<T, kVectors, V>(band, i, rows, src + x, stride, out + x, out_stride);
  }
  for (; x + kOne <= width; x += kOne) blend_block<T, 1, V>(band, i, rows, src + x, stride, out + x, out_stride);
  for (; x < width; ++x) blend_block<T, 1, T>(band, i, rows, src + x, stride, out + x, out_stride);
}

// N neighbouring inner blocks of a line.
template <class T, int N>
inline __attribute__((always_inline)) void blend_inner(const LineBand<T>& line, const T* src, T* out) {
  using V = typename VecOf<T>::type;
  V sum[N] = {};
  for (int64_t k = 0; k <= 2 * line.r; ++k) {
    const V weight = splat<V>(line.taps[k]);
    for (int v = 0; v < N; ++v) sum[v] = add_product(weight, load<V>(src + k - line.r + v * line.kBlock), sum[v]);
  }
  for (int v = 0; v < N; ++v) store(out + v * line.kBlock, sum[v]);
}

// One contiguous line.
template <class T>
void blend_line(const LineBand<T>& line, const T* src, T* out) {
  using V = typename VecOf<T>::type;
  for (int64_t block = 0; block < line.blocks;) {
    const int64_t i = block * line.kBlock;
    const T* table = line.block_table[block];
    if (table == nullptr) {
      if (block + 4 <= line.blocks && line.block_table[block + 3] == nullptr) {
        blend_inner<T, 4>(line, src + i, out + i);
        block += 4;
      } else {
        blend_inner<T, 1>(line, src + i, out + i);
        ++block;
      }
      continue;
    }
    V even = {}, odd = {};
    const int64_t first = line.first(i), last = line.last(i);
    int64_t q = first;
    for (; q < last; q += 2, table += 2 * line.kBlock) {
      even = add_product(load<V>(table), splat<V>(src[q]), even);
      odd = add_product(load<V>(table + line.kBlock), splat<V>(src[q + 1]), odd);
    }
    if (q == last) even = add_product(load<V>(table), splat<V>(src[q]), even);
    even = even + odd;
    if (i + line.kBlock <= line.n) {
      store(out + i, even);
    } else {
      for (int64_t l = 0; i + l < line.n; ++l) out[i + l] = even[l];
    }
    ++block;
  }
}

template <class T>
void blur_sample(const GaussianBlurParams& p, const T* x, T* out, const Band<T> (&band)[3], const LineBand<T>& line) {
  const int64_t depth = p.n[0], height = p.n[1], width = p.n[2], plane = height * width;
  const bool along_z = band[0].rows != nullptr, along_y = band[1].rows != nullptr, along_x = band[2].rows != nullptr;
  const int64_t strips = (height + kStripRows - 1) / kStripRows;
  const int64_t grain = 65536 / (depth * kStripRows * width) + 1;
  if (along_z || along_x || !along_y) {
    parallel_for(0, p.channels * strips, grain, [&](int64_t begin, int64_t end) {
      T* rows = static_cast<T*>(workspace(1, kRows * (width + 64) * static_cast<int64_t>(sizeof(T))));
      for (int64_t item = begin; item < end; ++item) {
        const int64_t y0 = item % strips * kStripRows, y1 = y0 + kStripRows < height ? y0 + kStripRows : height;
        const int64_t base = item / strips * p.volume();
        for (int64_t z = 0; z < depth; z += kRows) {
          for (int64_t y = y0; y < y1; ++y) {
            T* to = out + base + z * plane + y * width;
            const T* from = x + base + z * plane + y * width;
            int64_t stride = plane;
            if (along_z) {
              T* target = along_x ? rows : to;
              blend_rows(band[0], z, x + base + y * width, plane, target, along_x ? width : plane, width);
              from = rows;
              stride = width;
            }
            for (int64_t j = 0; j < kRows && z + j < depth; ++j) {
              if (along_x) {
                blend_line(line, from + j * stride, to + j * plane);
              } else if (!along_z) {
                __builtin_memcpy(to + j * plane, from + j * stride, static_cast<size_t>(width) * sizeof(T));
              }
            }
          }
        }
      }
    });
  }
  if (!along_y) return;
  const bool in_place = along_z || along_x;
  constexpr int64_t kColumns = 256 / static_cast<int64_t>(sizeof(T));
  const int64_t columns = (width + kColumns - 1) / kColumns;
  parallel_for(0, p.channels * depth * columns, 65536 / (height * kColumns) + 1, [&](int64_t begin, int64_t end) {
    T* strip = static_cast<T*>(workspace(1, height * kColumns * static_cast<int64_t>(sizeof(T))));
    for (int64_t item = begin; item < end; ++item) {
      const int64_t x0 = item % columns * kColumns, w = x0 + kColumns < width ? kColumns : width - x0;
      const int64_t at = item / columns * plane + x0;
      const T* from = x + at;
      int64_t stride = width;
      if (in_place) {
        for (int64_t y = 0; y < height; ++y) {
          __builtin_memcpy(strip + y * kColumns, out + at + y * width, static_cast<size_t>(w) * sizeof(T));
        }
        from = strip;
        stride = kColumns;
      }
      for (int64_t y = 0; y < height; y += kRows) blend_rows(band[1], y, from, stride, out + at + y * width, width, w);
    }
  });
}

}  // namespace

MEDSYNTH_DEFINE_CPU(gaussian_blur, GaussianBlurParams, p) {
  dispatch_float(p.dtype, [&](auto value) {
    using T = decltype(value);
    for (int64_t b = 0; b < p.batch; ++b) {
      int64_t bytes = 0;
      for (int d = 0; d < 3; ++d) {
        const int64_t taps = blur_radius(blur_sigma(p, b, d), p.truncate), r = taps < p.n[d] - 1 ? taps : p.n[d] - 1;
        bytes += Band<T>::bytes(p.n[d], r) + (d == 2 ? LineBand<T>::bytes(p.n[d], r) : 0);
      }
      Arena arena{static_cast<char*>(workspace(0, bytes))};
      Band<T> band[3];
      for (int d = 0; d < 3; ++d) band[d] = make_band<T>(p, p.n[d], blur_sigma(p, b, d), arena);
      const LineBand<T> line = make_line_band(band[2], arena);
      const int64_t at = b * p.channels * p.volume();
      blur_sample<T>(p, static_cast<const T*>(p.x) + at, static_cast<T*>(p.out) + at, band, line);
    }
  });
}

}  // namespace medsynth
