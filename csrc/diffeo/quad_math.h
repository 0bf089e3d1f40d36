// Vector fields with four interleaved numbers a voxel, and sampling them at x + u(x), for host and device.
//
// All components of a voxel then arrive with one load, and the two corners along x with one more. A field of one or two
// axes is a field of three whose missing axes have one voxel: (H, W) becomes (H, 1, W), (W) becomes (1, 1, W), so that
// the first axis, over which threads share the work, is the longest that there is. Component c sits in lane lane(c).
#pragma once
#include "sampling.h"

#if defined(__FMA__) && !defined(__CUDACC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // false alarms inside GCC 12's own header
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

#ifndef __CUDACC__
#pragma GCC diagnostic ignored "-Wpsabi"  // 32-byte vectors are passed inside always-inline functions only
#endif

namespace medsynth {

struct QuadGrid {
  int64_t nz, ny, nx;
  int32_t dims;  // components: 1, 2 or 3

  MEDSYNTH_HD int64_t voxels() const { return nz * ny * nx; }
  MEDSYNTH_HD int lane(int component) const { return dims == 3 ? component : dims == 2 ? 2 * component : 2; }
};

inline namespace MEDSYNTH_ISA_NAMESPACE {

#ifdef __CUDACC__
template <class T>
struct alignas(16) Quad {
  T v[4];
  MEDSYNTH_HD T operator[](int i) const { return v[i]; }
  MEDSYNTH_HD void set(int i, T value) { v[i] = value; }
};
template <class T>
MEDSYNTH_HD Quad<T> make_quad(T a, T b, T c) {
  return {{a, b, c, T(0)}};
}
template <class T>
MEDSYNTH_HD Quad<T> operator+(const Quad<T>& a, const Quad<T>& b) {
  return {{a[0] + b[0], a[1] + b[1], a[2] + b[2], T(0)}};
}
template <class T>
MEDSYNTH_HD Quad<T> operator-(const Quad<T>& a, const Quad<T>& b) {
  return {{a[0] - b[0], a[1] - b[1], a[2] - b[2], T(0)}};
}
template <class T>
MEDSYNTH_HD Quad<T> operator*(const Quad<T>& a, T s) {
  return {{a[0] * s, a[1] * s, a[2] * s, T(0)}};
}
// a * s + b
template <class T>
MEDSYNTH_HD Quad<T> multiply_add(const Quad<T>& a, T s, const Quad<T>& b) {
  return {{fma(a[0], s, b[0]), fma(a[1], s, b[1]), fma(a[2], s, b[2]), T(0)}};
}
#else
template <class T>
struct Quad {
  typedef T Lanes __attribute__((vector_size(4 * sizeof(T))));
  Lanes v;
  MEDSYNTH_HD T operator[](int i) const { return v[i]; }
  MEDSYNTH_HD void set(int i, T value) { v[i] = value; }
};
template <class T>
MEDSYNTH_HD Quad<T> make_quad(T a, T b, T c) {
  return {typename Quad<T>::Lanes{a, b, c, T(0)}};
}
template <class T>
MEDSYNTH_HD Quad<T> operator+(const Quad<T>& a, const Quad<T>& b) {
  return {a.v + b.v};
}
template <class T>
MEDSYNTH_HD Quad<T> operator-(const Quad<T>& a, const Quad<T>& b) {
  return {a.v - b.v};
}
template <class T>
MEDSYNTH_HD Quad<T> operator*(const Quad<T>& a, T s) {
  return {a.v * s};
}
// a * s + b
template <class T>
MEDSYNTH_HD Quad<T> multiply_add(const Quad<T>& a, T s, const Quad<T>& b) {
#ifdef __FMA__
  if constexpr (sizeof(T) == 4) {
    return {reinterpret_cast<typename Quad<T>::Lanes>(_mm_fmadd_ps(a.v, _mm_set1_ps(s), b.v))};
  } else {
    return {reinterpret_cast<typename Quad<T>::Lanes>(_mm256_fmadd_pd(a.v, _mm256_set1_pd(s), b.v))};
  }
#else
  return {a.v * s + b.v};
#endif
}
#endif

template <class T>
MEDSYNTH_HD T dot(const Quad<T>& a, const Quad<T>& b) {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

// The cell of a quad field in which a location lies: base voxel, steps to the far corners, weights and their slopes per
// axis (lanes z, y, x).
template <class T>
struct Cell {
  int64_t base;        // linear index of the near corner
  int64_t plane;       // its z
  int64_t dz, dy, dx;  // linear distance to the far corner along each axis, 0 on an axis of one voxel
  Quad<T> w0, w1, d0, d1;
};

// sample_axis at x + u. Inside the grid the voxel and the weights come from u alone, so that float32 loses nothing far
// from the origin.
template <Border B, class T>
MEDSYNTH_HD AxisSample<T> sample_beside(int64_t x, T u, int64_t n) {
  const T whole = std::floor(u);
  if (whole > T(-16777216) && whole < T(16777216)) {
    const int64_t i = x + static_cast<int64_t>(whole);
    if (i >= 0 && i < n - 1) {
      const T w = u - whole;
      return {i, 1, T(1) - w, w, T(-1), T(1)};
    }
  }
  return sample_axis<B>(static_cast<T>(x) + u, n);
}

template <Border B, class T>
MEDSYNTH_HD Cell<T> locate(const QuadGrid& g, const Quad<T>& u, int64_t z, int64_t y, int64_t x) {
  const AxisSample<T> az = sample_beside<B>(z, u[0], g.nz);
  const AxisSample<T> ay = sample_beside<B>(y, u[1], g.ny);
  const AxisSample<T> ax = sample_beside<B>(x, u[2], g.nx);
  return {(az.index * g.ny + ay.index) * g.nx + ax.index,
          az.index,
          az.next * g.ny * g.nx,
          ay.next * g.nx,
          ax.next,
          make_quad(az.w0, ay.w0, ax.w0),
          make_quad(az.w1, ay.w1, ax.w1),
          make_quad(az.d0, ay.d0, ax.d0),
          make_quad(az.d1, ay.d1, ax.d1)};
}

#ifndef __CUDACC__
// The same for the clamp border, all axes at once. Axes must be shorter than 2^30. The cell and the weights come from u
// alone, so float32 loses nothing far from the origin.
template <class T>
MEDSYNTH_HD Cell<T> locate_clamp(const QuadGrid& g, const Quad<T>& u, int64_t z, int64_t y, int64_t x) {
  using Lanes = typename Quad<T>::Lanes;
  typedef int32_t Ints __attribute__((vector_size(16)));
  const Ints place{static_cast<int32_t>(z), static_cast<int32_t>(y), static_cast<int32_t>(x), 0};
  const Ints ends{static_cast<int32_t>(g.nz - 1), static_cast<int32_t>(g.ny - 1), static_cast<int32_t>(g.nx - 1), 0};
  const Lanes low = -__builtin_convertvector(place, Lanes), high = __builtin_convertvector(ends - place, Lanes);
  const Lanes zero{T(0), T(0), T(0), T(0)};
  Lanes c = low > u.v ? low : u.v;  // in this order a NaN passes through
  c = high < c ? high : c;
  const Ints none{0, 0, 0, 0}, far = ends - 1;
  Ints i = __builtin_convertvector(c, Ints);
  i += __builtin_convertvector(__builtin_convertvector(i, Lanes) > c, Ints);  // floor
  i += place;
  i = i > far ? far : i;
  i = i < none ? none : i;
  const Lanes one{T(1), T(1), T(1), T(1)};
  const Lanes w = c - __builtin_convertvector(i - place, Lanes);
  const Lanes moves{T(g.nz > 1), T(g.ny > 1), T(g.nx > 1), T(0)};
  Lanes slope = c == u.v ? moves : zero;
  slope = w == w ? slope : w;
  return {(int64_t{i[0]} * g.ny + i[1]) * g.nx + i[2],
          i[0],
          g.nz > 1 ? g.ny * g.nx : 0,
          g.ny > 1 ? g.nx : 0,
          g.nx > 1 ? 1 : 0,
          {one - w},
          {w},
          {-slope},
          {slope}};
}
#endif

// a + (b - a) * w1, or a * w0 + b * w1 where corners can count as zero.
template <Border B, class T>
MEDSYNTH_HD Quad<T> blend_quads(const Cell<T>& c, int axis, const Quad<T>& a, const Quad<T>& b) {
  if constexpr (B == Border::zeros) {
    return multiply_add(b, c.w1[axis], a * c.w0[axis]);
  } else {
    return multiply_add(b - a, c.w1[axis], a);
  }
}

template <Border B, class T>
MEDSYNTH_HD Quad<T> slope_of_quads(const Cell<T>& c, int axis, const Quad<T>& a, const Quad<T>& b) {
  if constexpr (B == Border::zeros) {
    return multiply_add(b, c.d1[axis], a * c.d0[axis]);
  } else {
    return (b - a) * c.d1[axis];
  }
}

template <Border B, class T>
MEDSYNTH_HD Quad<T> sample_quad(const Quad<T>* field, const Cell<T>& c) {
  const Quad<T>* p = field + c.base;
  const Quad<T> r00 = blend_quads<B>(c, 2, p[0], p[c.dx]);
  const Quad<T> r01 = blend_quads<B>(c, 2, p[c.dy], p[c.dy + c.dx]);
  const Quad<T> r10 = blend_quads<B>(c, 2, p[c.dz], p[c.dz + c.dx]);
  const Quad<T> r11 = blend_quads<B>(c, 2, p[c.dz + c.dy], p[c.dz + c.dy + c.dx]);
  return blend_quads<B>(c, 0, blend_quads<B>(c, 1, r00, r01), blend_quads<B>(c, 1, r10, r11));
}

// The sample's derivative to the location, transposed and applied to `grad`: lane d holds sum_c grad_c d(u_c)/d(q_d).
template <Border B, class T>
MEDSYNTH_HD Quad<T> pull_back_to_location(const Quad<T>* field, const Cell<T>& c, const Quad<T>& grad) {
  const Quad<T>* p = field + c.base;
  const Quad<T> a = p[0], b = p[c.dx], d = p[c.dy], e = p[c.dy + c.dx];
  const Quad<T>* q = p + c.dz;
  const Quad<T> h = q[0], i = q[c.dx], j = q[c.dy], k = q[c.dy + c.dx];
  const Quad<T> r00 = blend_quads<B>(c, 2, a, b), r01 = blend_quads<B>(c, 2, d, e);
  const Quad<T> r10 = blend_quads<B>(c, 2, h, i), r11 = blend_quads<B>(c, 2, j, k);
  const Quad<T> by_z = slope_of_quads<B>(c, 0, blend_quads<B>(c, 1, r00, r01), blend_quads<B>(c, 1, r10, r11));
  const Quad<T> by_y = blend_quads<B>(c, 0, slope_of_quads<B>(c, 1, r00, r01), slope_of_quads<B>(c, 1, r10, r11));
  const Quad<T> s00 = slope_of_quads<B>(c, 2, a, b), s01 = slope_of_quads<B>(c, 2, d, e);
  const Quad<T> s10 = slope_of_quads<B>(c, 2, h, i), s11 = slope_of_quads<B>(c, 2, j, k);
  const Quad<T> by_x = blend_quads<B>(c, 0, blend_quads<B>(c, 1, s00, s01), blend_quads<B>(c, 1, s10, s11));
  return make_quad(dot(by_z, grad), dot(by_y, grad), dot(by_x, grad));
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
