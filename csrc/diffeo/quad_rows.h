// Loops over pieces of rows of a quad field, for the CPU: pack, unpack, one composition step and its two adjoint parts.
#pragma once
#include "../common/parallel.h"
#include "quad_math.h"
#include "quad_vector.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

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

// out(x) = u(x) + field(x + u(x)) for n voxels from (z, y, x); disp and out point at the first of them. `stream` writes
// past the caches: right for a field that does not fit there.
template <Border B, class T>
void step_segment(const Quad<T>* disp, const Quad<T>* field, const QuadGrid& g, int64_t z, int64_t y, int64_t x,
                  int64_t n, Quad<T>* out, [[maybe_unused]] bool stream) {
  int64_t i = 0;
#ifdef __AVX2__
  if constexpr (B == Border::clamp && sizeof(T) == 4) {
    if (QuadWalk::fits(g)) {
      const bool aligned = reinterpret_cast<uintptr_t>(out) % sizeof(VecF) == 0;
      i = stream && aligned ? step_vectors<true>(disp, field, g, z, y, x, n, out)
                            : step_vectors<false>(disp, field, g, z, y, x, n, out);
    }
  }
#endif
  for (; i < n; ++i) out[i] = disp[i] + sample_quad<B>(field, locate_any<B>(g, disp[i], z, y, x + i));
}

// out(x) = grad(x) + d(field(x + u(x)))/du^T grad(x): the part of the adjoint that stays where it is.
template <Border B, class T>
PlaneRange pull_back_segment(const Quad<T>* disp, const Quad<T>* field, const Quad<T>* grad, const QuadGrid& g,
                             int64_t z, int64_t y, int64_t x, int64_t n, Quad<T>* out) {
  PlaneRange r{g.nz, -1};
  int64_t i = 0;
#ifdef __AVX2__
  if constexpr (B == Border::clamp && sizeof(T) == 4) {
    if (QuadWalk::fits(g)) i = pull_back_vectors(disp, field, grad, g, z, y, x, n, out, r);
  }
#endif
  for (; i < n; ++i) {
    const Cell<T> c = locate_any<B>(g, disp[i], z, y, x + i);
    out[i] = grad[i] + pull_back_to_location<B>(field, c, grad[i]);
    r.low = c.plane < r.low ? c.plane : r.low;
    r.high = c.plane > r.high ? c.plane : r.high;
  }
  r.high = r.high + 1 < g.nz ? r.high + 1 : r.high;
  return r;
}

// field-shaped out += the sampling weights times grad, for the planes [begin, end) only; `all` says that no other
// occurs.
template <Border B, class T>
void scatter_segment(const Quad<T>* disp, const Quad<T>* grad, const QuadGrid& g, int64_t z, int64_t y, int64_t x,
                     int64_t n, int64_t begin, int64_t end, [[maybe_unused]] bool all, Quad<T>* out) {
  int64_t i = 0;
#ifdef __AVX2__
  if constexpr (B == Border::clamp && sizeof(T) == 4) {
    if (QuadWalk::fits(g)) {
      i = all ? scatter_vectors<true>(disp, grad, g, z, y, x, n, begin, end, out)
              : scatter_vectors<false>(disp, grad, g, z, y, x, n, begin, end, out);
    }
  }
#endif
  for (; i < n; ++i) {
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
      const bool all = ranges[i].low >= begin && ranges[i].high < end;
      scatter_segment<B>(disp + s.begin, grad + s.begin, g, s.z, s.y, s.x, s.n, begin, end, all, out);
    }
  });
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
