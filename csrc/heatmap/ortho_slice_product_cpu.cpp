#include "../common/dispatch.h"
#include "../common/parallel.h"
#include "ortho_slice_product_math.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {
namespace {

constexpr int64_t kSide = kSliceTile;

// A tile in the order of x, whatever its size: voxel (i, j, k) lies at ((i kSide) + j) kSide + k.
template <class T>
struct Tile {
  T v[kSide * kSide * kSide];

  T* at(int64_t i, int64_t j) { return v + (i * kSide + j) * kSide; }
};

// A tile's place.
struct Span {
  int64_t offset;             // of its sample, in elements
  int64_t first[3], size[3];  // along i, j, k

  int64_t at_z(const OrthoSliceProductParams& p, int64_t i) const {
    return offset + p.at_z(first[0] + i, first[1], first[2]);
  }
  int64_t at_y(const OrthoSliceProductParams& p, int64_t j) const {
    return offset + p.at_y(first[0], first[1] + j, first[2]);
  }
  int64_t at_x(const OrthoSliceProductParams& p, int64_t i, int64_t j) const {
    return offset + p.at_x(first[0] + i, first[1] + j, first[2]);
  }
};

template <class T>
struct FourOf;
template <>
struct FourOf<float> {
  typedef float type __attribute__((vector_size(16)));
};
template <>
struct FourOf<double> {
  typedef double type __attribute__((vector_size(32)));
};

// to[c * to_step + r] = from[r * from_step + c], in squares of four where they fit.
template <class T>
void transpose(const T* from, int64_t from_step, T* to, int64_t to_step, int64_t rows, int64_t columns) {
  using V = typename FourOf<T>::type;
  const int64_t whole_rows = rows & ~int64_t{3}, whole_columns = columns & ~int64_t{3};
  for (int64_t r = 0; r < whole_rows; r += 4) {
    for (int64_t c = 0; c < whole_columns; c += 4) {
      V in[4];
      for (int q = 0; q < 4; ++q) __builtin_memcpy(&in[q], from + (r + q) * from_step + c, sizeof(V));
      const V low0 = __builtin_shufflevector(in[0], in[1], 0, 4, 1, 5);
      const V low1 = __builtin_shufflevector(in[2], in[3], 0, 4, 1, 5);
      const V high0 = __builtin_shufflevector(in[0], in[1], 2, 6, 3, 7);
      const V high1 = __builtin_shufflevector(in[2], in[3], 2, 6, 3, 7);
      const V out[4] = {
          __builtin_shufflevector(low0, low1, 0, 1, 4, 5), __builtin_shufflevector(low0, low1, 2, 3, 6, 7),
          __builtin_shufflevector(high0, high1, 0, 1, 4, 5), __builtin_shufflevector(high0, high1, 2, 3, 6, 7)};
      for (int q = 0; q < 4; ++q) __builtin_memcpy(to + (c + q) * to_step + r, &out[q], sizeof(V));
    }
    for (int64_t c = whole_columns; c < columns; ++c) {
      for (int64_t i = r; i < r + 4; ++i) to[c * to_step + i] = from[i * from_step + c];
    }
  }
  for (int64_t r = whole_rows; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) to[c * to_step + r] = from[r * from_step + c];
  }
}

// Asks for the next tile's piece of a slice. Pieces lie too far apart for the hardware to foresee them, and waiting for
// them would take most of the time.
template <class T>
void prefetch(const T* from, int64_t step, int64_t rows, int64_t columns) {
  for (int64_t r = 0; r < rows; ++r) {
    __builtin_prefetch(from + r * step, 0, 2);
    __builtin_prefetch(from + r * step + columns - 1, 0, 2);
  }
}

template <class T>
void read_z(const OrthoSliceProductParams& p, const void* z, const Span& s, const Span& next, Tile<T>& to) {
  const auto* data = static_cast<const T*>(z);
  const int64_t step = p.n[0] * p.n[1];
  for (int64_t i = 0; i < s.size[0]; ++i) {
    if (i < next.size[0]) prefetch(data + next.at_z(p, i), step, next.size[2], next.size[1]);
    transpose(data + s.at_z(p, i), step, to.at(i, 0), kSide, s.size[2], s.size[1]);
  }
}

template <class T>
void write_z(const OrthoSliceProductParams& p, Tile<T>& from, const Span& s) {
  for (int64_t i = 0; i < s.size[0]; ++i) {
    T* to = static_cast<T*>(p.grad_z) + s.at_z(p, i);
    transpose<T>(from.at(i, 0), kSide, to, p.n[0] * p.n[1], s.size[1], s.size[2]);
  }
}

template <class T>
void read_y(const OrthoSliceProductParams& p, const void* y, const Span& s, const Span& next, Tile<T>& to) {
  const auto* data = static_cast<const T*>(y);
  for (int64_t j = 0; j < s.size[1]; ++j) {
    if (j < next.size[1]) prefetch(data + next.at_y(p, j), p.n[0], next.size[2], next.size[0]);
    transpose(data + s.at_y(p, j), p.n[0], to.at(0, j), kSide * kSide, s.size[2], s.size[0]);
  }
}

template <class T>
void write_y(const OrthoSliceProductParams& p, Tile<T>& from, const Span& s) {
  for (int64_t j = 0; j < s.size[1]; ++j) {
    T* to = static_cast<T*>(p.grad_y) + s.at_y(p, j);
    transpose<T>(from.at(0, j), kSide * kSide, to, p.n[0], s.size[0], s.size[2]);
  }
}

// Calls f(tile, next tile) for every tile; tiles of one thread follow each other along k.
template <class F>
void for_each_tile(const OrthoSliceProductParams& p, F f) {
  int64_t tiles[3];
  for (int d = 0; d < 3; ++d) tiles[d] = (p.n[d] + kSide - 1) / kSide;
  const int64_t each = tiles[0] * tiles[1] * tiles[2];
  const auto span_of = [&](int64_t t) {
    const int64_t r = t % each;
    const int64_t index[3] = {r / (tiles[1] * tiles[2]), r / tiles[2] % tiles[1], r % tiles[2]};
    Span s;
    s.offset = t / each * p.volume();
    for (int d = 0; d < 3; ++d) {
      s.first[d] = index[d] * kSide;
      s.size[d] = p.n[d] - s.first[d] < kSide ? p.n[d] - s.first[d] : kSide;
    }
    return s;
  };
  parallel_for(0, p.batch * each, 4, [&](int64_t begin, int64_t end) {
    Span now = span_of(begin);
    for (int64_t t = begin; t < end; ++t) {
      const Span next = t + 1 < end ? span_of(t + 1) : now;
      f(now, next);
      now = next;
    }
  });
}

template <class T, bool kLog>
void forward(const OrthoSliceProductParams& p) {
  for_each_tile(p, [&](const Span& s, const Span& next) {
    Tile<T> z, y;
    read_z(p, p.z, s, next, z);
    read_y(p, p.y, s, next, y);
    for (int64_t i = 0; i < s.size[0]; ++i) {
      for (int64_t j = 0; j < s.size[1]; ++j) {
        const int64_t row = s.at_x(p, i, j);
        const T* x = static_cast<const T*>(p.x) + row;
        T* out = static_cast<T*>(p.out) + row;
        const T *zs = z.at(i, j), *ys = y.at(i, j);
        for (int64_t k = 0; k < s.size[2]; ++k) out[k] = slice_product(zs[k], ys[k], x[k], kLog);
      }
    }
  });
}

template <class T, bool kLog>
void backward(const OrthoSliceProductParams& p) {
  for_each_tile(p, [&](const Span& s, const Span& next) {
    Tile<T> z, y;
    read_z(p, p.z, s, next, z);
    read_y(p, p.y, s, next, y);
    for (int64_t i = 0; i < s.size[0]; ++i) {
      for (int64_t j = 0; j < s.size[1]; ++j) {
        const int64_t row = s.at_x(p, i, j);
        const T *x = static_cast<const T*>(p.x) + row, *grad = static_cast<const T*>(p.grad) + row;
        T* to_x = static_cast<T*>(p.grad_x) + row;
        T *zs = z.at(i, j), *ys = y.at(i, j);  // the gradients take the places of the factors
        for (int64_t k = 0; k < s.size[2]; ++k) {
          T to_z, to_y;
          slice_product_grad(grad[k], zs[k], ys[k], x[k], kLog, to_z, to_y, to_x[k]);
          zs[k] = to_z;
          ys[k] = to_y;
        }
      }
    }
    write_z(p, z, s);
    write_y(p, y, s);
  });
}

}  // namespace
}  // namespace MEDSYNTH_ISA_NAMESPACE

MEDSYNTH_DEFINE_CPU(ortho_slice_product, OrthoSliceProductParams, p) {
  dispatch_float(p.dtype, [&](auto tag) {
    using T = decltype(tag);
    p.log ? forward<T, true>(p) : forward<T, false>(p);
  });
}

MEDSYNTH_DEFINE_CPU(ortho_slice_product_backward, OrthoSliceProductParams, p) {
  dispatch_float(p.dtype, [&](auto tag) {
    using T = decltype(tag);
    p.log ? backward<T, true>(p) : backward<T, false>(p);
  });
}

}  // namespace medsynth
