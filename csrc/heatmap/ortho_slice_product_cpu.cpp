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

struct Span {
  int64_t first[3], size[3];  // of a tile along i, j, k
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

template <class T>
void read_z(const OrthoSliceProductParams& p, const T* z, const Span& s, Tile<T>& to) {
  for (int64_t i = 0; i < s.size[0]; ++i) {
    transpose(z + p.at_z(s.first[0] + i, s.first[1], s.first[2]), p.n[0] * p.n[1], to.at(i, 0), kSide, s.size[2],
              s.size[1]);
  }
}

template <class T>
void write_z(const OrthoSliceProductParams& p, Tile<T>& from, const Span& s, T* z) {
  for (int64_t i = 0; i < s.size[0]; ++i) {
    transpose(from.at(i, 0), kSide, z + p.at_z(s.first[0] + i, s.first[1], s.first[2]), p.n[0] * p.n[1], s.size[1],
              s.size[2]);
  }
}

template <class T>
void read_y(const OrthoSliceProductParams& p, const T* y, const Span& s, Tile<T>& to) {
  for (int64_t j = 0; j < s.size[1]; ++j) {
    transpose(y + p.at_y(s.first[0], s.first[1] + j, s.first[2]), p.n[0], to.at(0, j), kSide * kSide, s.size[2],
              s.size[0]);
  }
}

template <class T>
void write_y(const OrthoSliceProductParams& p, Tile<T>& from, const Span& s, T* y) {
  for (int64_t j = 0; j < s.size[1]; ++j) {
    transpose(from.at(0, j), kSide * kSide, y + p.at_y(s.first[0], s.first[1] + j, s.first[2]), p.n[0], s.size[0],
              s.size[2]);
  }
}

// Calls f(sample, span) for every tile; tiles of one thread follow each other along k.
template <class F>
void for_each_tile(const OrthoSliceProductParams& p, F f) {
  int64_t tiles[3];
  for (int d = 0; d < 3; ++d) tiles[d] = (p.n[d] + kSide - 1) / kSide;
  const int64_t each = tiles[0] * tiles[1] * tiles[2];
  parallel_for(0, p.batch * each, 4, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t r = t % each;
      const int64_t index[3] = {r / (tiles[1] * tiles[2]), r / tiles[2] % tiles[1], r % tiles[2]};
      Span s;
      for (int d = 0; d < 3; ++d) {
        s.first[d] = index[d] * kSide;
        s.size[d] = p.n[d] - s.first[d] < kSide ? p.n[d] - s.first[d] : kSide;
      }
      f(t / each, s);
    }
  });
}

template <class T, bool kLog>
void forward(const OrthoSliceProductParams& p) {
  for_each_tile(p, [&](int64_t b, const Span& s) {
    const int64_t offset = b * p.volume();
    Tile<T> z, y;
    read_z(p, static_cast<const T*>(p.z) + offset, s, z);
    read_y(p, static_cast<const T*>(p.y) + offset, s, y);
    for (int64_t i = 0; i < s.size[0]; ++i) {
      for (int64_t j = 0; j < s.size[1]; ++j) {
        const int64_t row = offset + p.at_x(s.first[0] + i, s.first[1] + j, s.first[2]);
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
  for_each_tile(p, [&](int64_t b, const Span& s) {
    const int64_t offset = b * p.volume();
    Tile<T> z, y;
    read_z(p, static_cast<const T*>(p.z) + offset, s, z);
    read_y(p, static_cast<const T*>(p.y) + offset, s, y);
    for (int64_t i = 0; i < s.size[0]; ++i) {
      for (int64_t j = 0; j < s.size[1]; ++j) {
        const int64_t row = offset + p.at_x(s.first[0] + i, s.first[1] + j, s.first[2]);
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
    write_z(p, z, s, static_cast<T*>(p.grad_z) + offset);
    write_y(p, y, s, static_cast<T*>(p.grad_y) + offset);
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
