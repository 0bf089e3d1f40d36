// Locations of a stretch of an output row, for the CPU kernels: all that does not change along the row is done once.
#pragma once
#if defined(__AVX512F__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12's own headers
#include <immintrin.h>
#endif

#include "../common/parallel.h"
#include "../common/workspace.h"
#include "warp_math.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

constexpr int kChunk = 64;     // voxels whose locations are held at a time
constexpr int kRowPad = 32;    // elements that may be read behind a coarse row
constexpr int kTableSlot = 0;  // workspace of the calling thread
constexpr int kRowSlot = 1;    // workspace of each worker

// Where the window's columns lie on a coarse displacement's last axis; filled once per call.
template <class T>
struct ColumnTable {
  int32_t* index = nullptr;
  T* weight = nullptr;
  bool narrow = false;  // 16 neighbours always fall on fewer than 32 coarse columns
};

template <class T>
ColumnTable<T> make_columns(const WarpParams& p) {
  ColumnTable<T> table;
  if (p.disp == nullptr || p.disp_rule == ResizeRule::same) return table;
  const int64_t n = (p.out_size[2] + kChunk - 1) / kChunk * kChunk;
  table.weight = static_cast<T*>(workspace(kTableSlot, n * static_cast<int64_t>(sizeof(T) + sizeof(int32_t))));
  table.index = reinterpret_cast<int32_t*>(table.weight + n);
  table.narrow = true;
  for (int64_t x = 0; x < n; ++x) {
    const int64_t inside = x < p.out_size[2] ? x : p.out_size[2] - 1;
    const double q = static_cast<double>(inside + p.disp_origin[2]) * p.disp_scale[2] + p.disp_offset[2];
    const AxisSample<double> s = sample_axis<Border::clamp>(q, p.disp_size[2]);
    table.index[x] = static_cast<int32_t>(s.index);
    table.weight[x] = static_cast<T>(s.w1);
    if (table.index[x] - table.index[x & ~int64_t{15}] > 30) table.narrow = false;
  }
  return table;
}

template <class T>
struct Row {
  const WarpParams& p;
  const ColumnTable<T>& columns;
  Affine affine{};
  int64_t b = 0, z = 0, y = 0;
  int64_t ahead = 0;  // elements of the source from a location to that of the next row, about
  const T* rows[3] = {nullptr, nullptr, nullptr};  // displacement along this row, per spatial axis (padded to three)

  Row(const WarpParams& params, const ColumnTable<T>& table) : p(params), columns(table) {}

  int first_axis() const { return 3 - p.dims; }
  bool coarse() const { return p.disp != nullptr && p.disp_rule != ResizeRule::same; }

  // Goes to row (b, z, y); `load` false when b is the one of the call before.
  void move_to(int64_t sample, int64_t plane, int64_t line, bool load) {
    if (load) {
      affine = load_affine(p, sample);
      ahead = 0;
      for (int d = 0; d < 3; ++d) {
        const double step = affine.m[d][1];
        ahead = ahead * p.src_size[d] + (step > -1e6 && step < 1e6 ? static_cast<int64_t>(std::rint(step)) : 0);
      }
    }
    b = sample;
    z = plane;
    y = line;
    if (p.disp == nullptr) return;
    const T* disp = static_cast<const T*>(p.disp) + b * p.disp_stride;
    const int64_t width = p.disp_size[2], volume = p.disp_size[0] * p.disp_size[1] * width;
    if (!coarse()) {
      const int64_t at = ((z + p.disp_origin[0]) * p.disp_size[1] + y + p.disp_origin[1]) * width + p.disp_origin[2];
      for (int c = 0; c < p.dims; ++c) rows[first_axis() + c] = disp + c * volume + at;
      return;
    }
    const double qz = static_cast<double>(z + p.disp_origin[0]) * p.disp_scale[0] + p.disp_offset[0];
    const double qy = static_cast<double>(y + p.disp_origin[1]) * p.disp_scale[1] + p.disp_offset[1];
    const AxisSample<double> sz = sample_axis<Border::clamp>(qz, p.disp_size[0]);
    const AxisSample<double> sy = sample_axis<Border::clamp>(qy, p.disp_size[1]);
    T* buffer = static_cast<T*>(workspace(kRowSlot, 3 * (width + kRowPad) * static_cast<int64_t>(sizeof(T))));
    const T wz = static_cast<T>(sz.w1), wy = static_cast<T>(sy.w1);
    const int64_t up = sy.next * width, deep = sz.next * p.disp_size[1] * width;
    for (int c = 0; c < p.dims; ++c) {
      const T* v = disp + c * volume + (sz.index * p.disp_size[1] + sy.index) * width;
      T* r = buffer + c * (width + kRowPad);
#pragma omp simd
      for (int64_t x = 0; x < width; ++x) {
        const T low = v[x] + wy * (v[x + up] - v[x]);
        const T high = v[x + deep] + wy * (v[x + deep + up] - v[x + deep]);
        r[x] = low + wz * (high - low);
      }
      for (int64_t x = width; x < width + kRowPad; ++x) r[x] = r[width - 1];
      rows[first_axis() + c] = r;
    }
  }
};

// The locations of voxels x0 .. x0 + count - 1; `moved` holds the displacements, needed for the matrix's gradient.
template <class T>
struct Chunk {
  alignas(64) T local[3][kChunk];
  alignas(64) T upsampled[3][kChunk];
  const T* disp[3];  // per axis: the displacement of each voxel, or null
  int64_t base[3];
  int64_t x0;
  int count;

  Location<T> at(int k) const { return {{base[0], base[1], base[2]}, {local[0][k], local[1][k], local[2][k]}}; }

  void fill(const Row<T>& row, int64_t x, int n) {
    x0 = x;
    count = n;
    for (int d = 0; d < 3; ++d) disp[d] = row.rows[d] == nullptr ? nullptr : stretch(row, d);
    for (int d = 0; d < 3; ++d) locate(row, d);
  }

 private:
  const T* stretch(const Row<T>& row, int d) {
    const T* v = row.rows[d];
    if (!row.coarse()) return v + x0;
    const int32_t* index = row.columns.index + x0;
    const T* weight = row.columns.weight + x0;
    T* r = upsampled[d];
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4) {
      if (row.columns.narrow) {
        for (int k = 0; k < count; k += 16) {
          const float* v0 = v + index[k];
          const __m512 low = _mm512_loadu_ps(v0), high = _mm512_loadu_ps(v0 + 16);
          const __m512i i = _mm512_sub_epi32(_mm512_loadu_si512(index + k), _mm512_set1_epi32(index[k]));
          const __m512 a = _mm512_permutex2var_ps(low, i, high);
          const __m512 b = _mm512_permutex2var_ps(low, _mm512_add_epi32(i, _mm512_set1_epi32(1)), high);
          _mm512_store_ps(r + k, _mm512_fmadd_ps(_mm512_loadu_ps(weight + k), _mm512_sub_ps(b, a), a));
        }
        return r;
      }
    }
#endif
    for (int k = 0; k < count; ++k) {
      const T a = v[index[k]], b = v[index[k] + 1];  // padded, and the weight is 0 behind the end
      r[k] = a + weight[k] * (b - a);
    }
    return r;
  }

  void locate(const Row<T>& row, int d) {
    const WarpParams& p = row.p;
    const double* m = row.affine.m[d];
    const double q = m[0] * static_cast<double>(row.z + p.origin[0]) + m[1] * static_cast<double>(row.y + p.origin[1]) +
                     m[2] * static_cast<double>(x0 + p.origin[2]) + m[3];
    T start;
    split_location(q, base[d], start);
    const T slope = static_cast<T>(m[2]);
    T* r = local[d];
    if (disp[d] == nullptr) {  // no displacement, or a leading axis that the grid lacks
#pragma omp simd
      for (int k = 0; k < kChunk; ++k) r[k] = std::fma(slope, static_cast<T>(k), start);
      return;
    }
    const T* v2 = disp[2];
    if (p.matrix == nullptr) {
      const T* v = disp[d];
#pragma omp simd
      for (int k = 0; k < count; ++k) r[k] = std::fma(slope, static_cast<T>(k), start) + v[k];
    } else if (p.dims == 3) {
      const T m0 = static_cast<T>(m[0]), m1 = static_cast<T>(m[1]);
      const T *v0 = disp[0], *v1 = disp[1];
#pragma omp simd
      for (int k = 0; k < count; ++k) {
        const T moved = std::fma(m0, v0[k], std::fma(m1, v1[k], slope * v2[k]));
        r[k] = std::fma(slope, static_cast<T>(k), start) + moved;
      }
    } else {
      const T m1 = static_cast<T>(m[1]);
      const T* v1 = disp[1];
      for (int k = 0; k < count; ++k) {
        const T moved = std::fma(slope, v2[k], v1 == nullptr ? T(0) : m1 * v1[k]);
        r[k] = std::fma(slope, static_cast<T>(k), start) + moved;
      }
    }
    for (int k = count; k < kChunk; ++k) r[k] = r[count - 1];
  }
};

// Calls f(row, chunk) for the stretches of rows [begin, end) of the output, in order.
template <class T, class F>
void walk_rows(const WarpParams& p, const ColumnTable<T>& columns, int64_t begin, int64_t end, const F& f) {
  const int64_t lines = p.out_size[1], planes = p.out_size[0], width = p.out_size[2];
  Row<T> row(p, columns);
  Chunk<T> chunk;
  int64_t last = -1;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t b = i / (planes * lines), rest = i % (planes * lines);
    row.move_to(b, rest / lines, rest % lines, b != last);
    last = b;
    for (int64_t x = 0; x < width; x += kChunk) {
      chunk.fill(row, x, static_cast<int>(width - x < kChunk ? width - x : kChunk));
      f(row, chunk);
    }
  }
}

// Calls f(columns, begin, end) for ranges of rows that together are the output, one for each thread.
template <class T, class F>
void for_each_range(const WarpParams& p, const F& f) {
  const ColumnTable<T> columns = make_columns<T>(p);
  const int64_t lines = p.out_size[1], planes = p.out_size[0], width = p.out_size[2];
  if (width == 0) return;
  parallel_for(0, p.batch * planes * lines, 16384 / (width + 1) + 1,
               [&](int64_t begin, int64_t end) { f(columns, begin, end); });
}

// Calls f(row, chunk) for every stretch of the output; rows are split over the threads.
template <class T, class F>
void for_each_chunk(const WarpParams& p, const F& f) {
  for_each_range<T>(
      p, [&](const ColumnTable<T>& columns, int64_t begin, int64_t end) { walk_rows(p, columns, begin, end, f); });
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
