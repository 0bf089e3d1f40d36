// One view, one ray, and one crossing of a slice, for host and device.
#pragma once
#include <cmath>

#include "../common/lanes.h"
#include "projection.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

// A view in voxel coordinates (x, y, z; 0 is voxel floor(n / 2)).
struct ViewFrame {
  double start[3];  // source, or the rays' direction
  double pixel[3];  // centre of pixel (0, 0)
  double u[3], v[3];
};

MEDSYNTH_HD int64_t middle_voxel(int64_t n) { return n / 2; }

MEDSYNTH_HD ViewFrame load_view(const ProjectionParams& p, int64_t view) {
  const double* t = p.vectors + 12 * view;
  ViewFrame f;
  for (int d = 0; d < 3; ++d) {
    const double shift = 0.5 * static_cast<double>(p.size[d] - 1) - static_cast<double>(middle_voxel(p.size[d]));
    f.u[d] = t[6 + d] / p.spacing[d];
    f.v[d] = t[9 + d] / p.spacing[d];
    f.start[d] = p.diverging ? (t[d] - p.center[d]) / p.spacing[d] + shift : t[d] / p.spacing[d];
    f.pixel[d] = (t[3 + d] - p.center[d]) / p.spacing[d] + shift - 0.5 * static_cast<double>(p.rows - 1) * f.v[d] -
                 0.5 * static_cast<double>(p.cols - 1) * f.u[d];
  }
  return f;
}

// A ray in voxel coordinates: point + t w.
struct Ray {
  double point[3], w[3];
};

MEDSYNTH_HD Ray make_ray(const ProjectionParams& p, const ViewFrame& f, int64_t row, int64_t col) {
  Ray ray;
  for (int d = 0; d < 3; ++d) {
    const double q = f.pixel[d] + static_cast<double>(row) * f.v[d] + static_cast<double>(col) * f.u[d];
    ray.point[d] = p.diverging ? f.start[d] : q;
    ray.w[d] = p.diverging ? q - f.start[d] : f.start[d];
  }
  if (p.flat) ray.w[2] = 0.0;
  return ray;
}

MEDSYNTH_HD int main_axis(const ProjectionParams& p, const double w[3]) {
  const double x = std::fabs(w[0]), y = std::fabs(w[1]), z = std::fabs(w[2]);
  if (p.flat) return x >= y ? 0 : 1;
  return x >= y && x >= z ? 0 : y >= z ? 1 : 2;
}

// The axes across a main axis.
MEDSYNTH_HD int first_across(int axis) { return axis == 0 ? 1 : 0; }
MEDSYNTH_HD int second_across(int axis) { return axis == 2 ? 1 : 2; }

// A ray as its crossings f = base + k slope of the slices k of its main axis (k counted from the middle slice).
template <class T>
struct Crossings {
  T base[2], slope[2];  // along the first and second axis across
  T length;             // mm of ray per slice
  int64_t first, last;  // slices (counted from 0) in [first, last) may meet the volume
};

// Narrows [low, high] to the k with lower < base + k slope < upper, with a margin for rounding.
MEDSYNTH_HD void narrow(double base, double slope, double lower, double upper, double& low, double& high) {
  if (slope == 0.0) {
    if (!(base > lower && base < upper)) high = low - 1.0;
    return;
  }
  const double a = (lower - base) / slope, b = (upper - base) / slope;
  low = larger(low, smaller(a, b) - 1e-3);
  high = smaller(high, larger(a, b) + 1e-3);
}

template <class T>
MEDSYNTH_HD Crossings<T> make_crossings(const ProjectionParams& p, const Ray& ray, int axis) {
  Crossings<T> c;
  const int across[2] = {first_across(axis), second_across(axis)};
  const double w = ray.w[axis];
  double squares = 0.0;
  for (int d = 0; d < 3; ++d) squares += ray.w[d] * p.spacing[d] * ray.w[d] * p.spacing[d];
  c.length = static_cast<T>(std::sqrt(squares) / std::fabs(w));
  const double middle = static_cast<double>(middle_voxel(p.size[axis]));
  const double least = 0.0 - middle, most = static_cast<double>(p.size[axis] - 1) - middle;
  double low = least, high = most;
  for (int i = 0; i < (p.flat ? 1 : 2); ++i) {
    const double slope = ray.w[across[i]] / w;
    const double base = ray.point[across[i]] - ray.point[axis] * slope;
    c.slope[i] = static_cast<T>(slope);
    c.base[i] = static_cast<T>(base);
    // Siddon's cells reach half a voxel further than their centres, and half a slice's drift beyond that.
    const double lower = static_cast<double>(-middle_voxel(p.size[across[i]])) - 1.0;
    narrow(base, slope, lower, lower + static_cast<double>(p.size[across[i]]) + 1.0, low, high);
  }
  if (p.flat) c.slope[1] = c.base[1] = T(0);
  if (p.diverging) {
    // Slices strictly in front of the source.
    const double at = ray.point[axis];
    if (w > 0.0) {
      low = larger(low, std::floor(at) + 1.0);
    } else {
      high = smaller(high, std::ceil(at) - 1.0);
    }
  }
  c.first = c.last = 0;
  // Narrowing by a NaN forgets the bound; such a ray meets nothing.
  if (!(low >= least && low <= high && high <= most) || !(c.length < T(1e30))) return c;
  c.first = static_cast<int64_t>(std::ceil(low) + middle);
  c.last = static_cast<int64_t>(std::floor(high) + middle) + 1;
  return c;
}

// Shares of a slice: voxels (a0, b0), (a0, b1), (a1, b0), (a1, b1), counted from 0.
template <class T>
struct Stencil {
  int64_t a0, a1, b0, b1;
  T w00, w01, w10, w11;
};

template <class T>
MEDSYNTH_HD Stencil<T> joseph_stencil(const ProjectionParams& p, const Crossings<T>& c, int axis, int64_t k) {
  const T at = static_cast<T>(k - middle_voxel(p.size[axis]));
  const T fa = fma_of(at, c.slope[0], c.base[0]), wa = fa - std::floor(fa);
  Stencil<T> s;
  s.a0 = static_cast<int64_t>(std::floor(fa)) + middle_voxel(p.size[first_across(axis)]);
  s.a1 = s.a0 + 1;
  if (p.flat) {
    s.b0 = 0;
    s.b1 = -1;
    s.w00 = T(1) - wa;
    s.w10 = wa;
    s.w01 = s.w11 = T(0);
    return s;
  }
  const T fb = fma_of(at, c.slope[1], c.base[1]), wb = fb - std::floor(fb);
  s.b0 = static_cast<int64_t>(std::floor(fb)) + middle_voxel(p.size[second_across(axis)]);
  s.b1 = s.b0 + 1;
  s.w00 = (T(1) - wa) * (T(1) - wb);
  s.w01 = (T(1) - wa) * wb;
  s.w10 = wa * (T(1) - wb);
  s.w11 = wa * wb;
  return s;
}

// The cells [i - 1/2, i + 1/2) that a ray is in where it enters and leaves slice k, and the share before the change.
template <class T>
MEDSYNTH_HD void siddon_cells(T at, T base, T slope, int64_t middle, int64_t& i0, int64_t& i1, T& share) {
  const T enter = fma_of(at - T(0.5), slope, base), leave = fma_of(at + T(0.5), slope, base);
  const T c0 = std::floor(enter + T(0.5));
  // At most one wall is crossed; rounding must not make it two.
  const T c1 = c0 + larger(T(-1), smaller(T(1), std::floor(leave + T(0.5)) - c0));
  i0 = static_cast<int64_t>(c0) + middle;
  i1 = static_cast<int64_t>(c1) + middle;
  if (c0 == c1) {
    share = T(1);
    return;
  }
  const T wall = larger(c0, c1) - T(0.5);
  share = larger(T(0), smaller(T(1), (wall - enter) / (leave - enter)));
}

template <class T>
MEDSYNTH_HD Stencil<T> siddon_stencil(const ProjectionParams& p, const Crossings<T>& c, int axis, int64_t k) {
  const T at = static_cast<T>(k - middle_voxel(p.size[axis]));
  Stencil<T> s;
  T ta, tb = T(1);
  siddon_cells(at, c.base[0], c.slope[0], middle_voxel(p.size[first_across(axis)]), s.a0, s.a1, ta);
  s.b0 = 0;
  s.b1 = -1;
  if (!p.flat) siddon_cells(at, c.base[1], c.slope[1], middle_voxel(p.size[second_across(axis)]), s.b0, s.b1, tb);
  s.w00 = smaller(ta, tb);
  s.w01 = larger(T(0), ta - tb);
  s.w10 = larger(T(0), tb - ta);
  s.w11 = T(1) - larger(ta, tb);
  // A cell that is entered and not left stands once; its share lies in the first entry.
  if (s.a0 == s.a1) s.a1 = -1;
  if (s.b0 == s.b1) s.b1 = -1;
  return s;
}

template <bool Siddon, class T>
MEDSYNTH_HD Stencil<T> stencil_at(const ProjectionParams& p, const Crossings<T>& c, int axis, int64_t k) {
  if constexpr (Siddon) {
    return siddon_stencil(p, c, axis, k);
  } else {
    return joseph_stencil(p, c, axis, k);
  }
}

// The sum over a ray's slices, without the length.
template <bool Siddon, class T>
MEDSYNTH_HD T ray_sum(const ProjectionParams& p, const Crossings<T>& c, int axis, const T* volume) {
  const int a = first_across(axis), b = second_across(axis);
  const int64_t stride_k = p.stride(axis), stride_a = p.stride(a), stride_b = p.stride(b);
  const int64_t size_a = p.size[a], size_b = p.size[b];
  T sum = T(0);
  for (int64_t k = c.first; k < c.last; ++k) {
    const Stencil<T> s = stencil_at<Siddon>(p, c, axis, k);
    const T* slice = volume + k * stride_k;
    const bool in_a0 = s.a0 >= 0 && s.a0 < size_a, in_a1 = s.a1 >= 0 && s.a1 < size_a;
    T value = T(0);
    if (s.b0 >= 0 && s.b0 < size_b) {
      if (in_a0) value = fma_of(s.w00, slice[s.a0 * stride_a + s.b0 * stride_b], value);
      if (in_a1) value = fma_of(s.w10, slice[s.a1 * stride_a + s.b0 * stride_b], value);
    }
    if (s.b1 >= 0 && s.b1 < size_b) {
      if (in_a0) value = fma_of(s.w01, slice[s.a0 * stride_a + s.b1 * stride_b], value);
      if (in_a1) value = fma_of(s.w11, slice[s.a1 * stride_a + s.b1 * stride_b], value);
    }
    sum += value;
  }
  return sum;
}

// The share of slice k's voxel (a, b) in a stencil.
template <class T>
MEDSYNTH_HD T stencil_share(const Stencil<T>& s, int64_t a, int64_t b) {
  if (b == s.b0) return a == s.a0 ? s.w00 : a == s.a1 ? s.w10 : T(0);
  if (b == s.b1) return a == s.a0 ? s.w01 : a == s.a1 ? s.w11 : T(0);
  return T(0);
}

// From voxel coordinates to the detector: (col, row, depth) = rows of m times (x, y, z, 1); col and row over depth
// where rays diverge.
struct ViewInverse {
  double m[12];
};

MEDSYNTH_HD ViewInverse invert_view(const ProjectionParams& p, const ViewFrame& f) {
  const double* u = f.u;
  const double* v = f.v;
  double ray[3], origin[3];
  for (int d = 0; d < 3; ++d) {
    ray[d] = p.diverging ? f.pixel[d] - f.start[d] : f.start[d];
    origin[d] = p.diverging ? f.start[d] : f.pixel[d];
  }
  const double* pair[3][2] = {{v, ray}, {ray, u}, {u, v}};
  ViewInverse inverse;
  double det = 0.0;
  for (int i = 0; i < 3; ++i) {
    const double *a = pair[i][0], *b = pair[i][1];
    double* m = inverse.m + 4 * i;
    m[0] = a[1] * b[2] - a[2] * b[1];
    m[1] = a[2] * b[0] - a[0] * b[2];
    m[2] = a[0] * b[1] - a[1] * b[0];
  }
  for (int d = 0; d < 3; ++d) det += inverse.m[8 + d] * ray[d];
  for (int i = 0; i < 3; ++i) {
    double* m = inverse.m + 4 * i;
    m[3] = 0.0;
    for (int d = 0; d < 3; ++d) {
      m[d] /= det;
      m[3] -= m[d] * origin[d];
    }
  }
  return inverse;
}

// The pixels whose rays can touch voxel `at`: those inside the shadow of the cube of two voxels' edge around it.
struct PixelBox {
  int64_t row_first, row_last, col_first, col_last;  // the last ones are not included
};

MEDSYNTH_HD PixelBox shadow(const ProjectionParams& p, const ViewInverse& inverse, const double at[3]) {
  double low[2] = {1e300, 1e300}, high[2] = {-1e300, -1e300};
  bool behind = false;
  for (int corner = 0; corner < 8; ++corner) {
    double q[3];
    for (int i = 0; i < 3; ++i) {
      const double* m = inverse.m + 4 * i;
      q[i] = m[3];
      for (int d = 0; d < 3; ++d) q[i] += m[d] * (at[d] + ((corner >> d & 1) ? 1.0 : -1.0));
    }
    const double depth = p.diverging ? q[2] : 1.0;
    behind = behind || !(depth > 1e-9);
    for (int i = 0; i < 2; ++i) {
      low[i] = smaller(low[i], q[i] / depth);
      high[i] = larger(high[i], q[i] / depth);
    }
  }
  const int64_t sizes[2] = {p.cols, p.rows};
  int64_t first[2], last[2];
  for (int i = 0; i < 2; ++i) {
    const double n = static_cast<double>(sizes[i]);
    const double begin = behind ? 0.0 : larger(0.0, smaller(n, std::ceil(low[i] - 1e-6)));
    const double end = behind ? n : larger(0.0, smaller(n, std::floor(high[i] + 1e-6) + 1.0));
    first[i] = static_cast<int64_t>(begin);
    last[i] = static_cast<int64_t>(end);
  }
  if (p.flat) return {0, 1, first[0], last[0]};
  return {first[1], last[1], first[0], last[0]};
}

// Adds to sums[n] what the voxel (x, y, z, counted from 0) gets from one view of `count` sets of projections.
template <bool Siddon, class T>
MEDSYNTH_HD void gather_view(const ProjectionParams& p, const ViewFrame& f, const ViewInverse& inverse,
                             const int64_t voxel[3], const T* proj, int64_t proj_stride, int count, T* sums) {
  double at[3];
  for (int d = 0; d < 3; ++d) at[d] = static_cast<double>(voxel[d] - middle_voxel(p.size[d]));
  const PixelBox box = shadow(p, inverse, at);
  for (int64_t row = box.row_first; row < box.row_last; ++row) {
    for (int64_t col = box.col_first; col < box.col_last; ++col) {
      const Ray ray = make_ray(p, f, row, col);
      const int axis = main_axis(p, ray.w);
      const Crossings<T> c = make_crossings<T>(p, ray, axis);
      const int64_t k = voxel[axis];
      if (k < c.first || k >= c.last) continue;
      const Stencil<T> s = stencil_at<Siddon>(p, c, axis, k);
      const T share = stencil_share(s, voxel[first_across(axis)], p.flat ? 0 : voxel[second_across(axis)]);
      if (share == T(0)) continue;
      for (int n = 0; n < count; ++n) {
        sums[n] = fma_of(share, c.length * proj[n * proj_stride + row * p.cols + col], sums[n]);
      }
    }
  }
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
