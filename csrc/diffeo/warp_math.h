// One voxel of a warp, for host and device.
#pragma once
#include "warp.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

// A location q = base + local per axis; base is even, so rounding half to even may be done on the local part.
template <class T>
struct Location {
  int64_t base[3];
  T local[3];
};

struct Affine {
  double m[3][4];  // rows and columns of missing leading axes are 0
};

MEDSYNTH_HD Affine load_affine(const WarpParams& p, int64_t b) {
  Affine a{};
  const int first = 3 - p.dims;
  for (int i = 0; i < p.dims; ++i) {
    for (int j = 0; j < p.dims; ++j) {
      a.m[first + i][first + j] = p.matrix ? p.matrix[b * p.matrix_stride + i * (p.dims + 1) + j] : double(i == j);
    }
    a.m[first + i][3] = p.matrix ? p.matrix[b * p.matrix_stride + i * (p.dims + 1) + p.dims] : 0.0;
  }
  return a;
}

// q as an even integer and a rest in [0, 2).
template <class T>
MEDSYNTH_HD void split_location(double q, int64_t& base, T& local) {
  if (!(q > -1e12 && q < 1e12)) {
    base = 0;
    local = static_cast<T>(q);
    return;
  }
  const double even = 2.0 * std::floor(q * 0.5);
  base = static_cast<int64_t>(even);
  local = static_cast<T>(q - even);
}

// The location of window voxel (z, y, x) without the displacement's part.
template <class T>
MEDSYNTH_HD void start_location(const WarpParams& p, const Affine& a, int64_t z, int64_t y, int64_t x,
                                Location<T>& at) {
  const double v[3] = {static_cast<double>(z + p.origin[0]), static_cast<double>(y + p.origin[1]),
                       static_cast<double>(x + p.origin[2])};
  for (int d = 0; d < 3; ++d) {
    split_location(a.m[d][0] * v[0] + a.m[d][1] * v[1] + a.m[d][2] * v[2] + a.m[d][3], at.base[d], at.local[d]);
  }
}

template <class T>
MEDSYNTH_HD AxisSample<T> narrow_sample(const AxisSample<double>& s) {
  return {s.index, s.next, static_cast<T>(s.w0), static_cast<T>(s.w1), static_cast<T>(s.d0), static_cast<T>(s.d1)};
}

// Linear sampling on one axis: the inside directly, the border by the rules of sampling.h in double.
template <class T>
MEDSYNTH_HD AxisSample<T> axis_linear(Border border, int64_t base, T local, int64_t n) {
  const T whole = std::floor(local);
  if (whole > T(-16777216) && whole < T(16777216)) {
    const int64_t i = base + static_cast<int64_t>(whole);
    if (i >= 0 && i < n - 1) {
      const T w = local - whole;
      return {i, 1, T(1) - w, w, T(-1), T(1)};
    }
  }
  const double q = static_cast<double>(base) + static_cast<double>(local);
  switch (border) {
    case Border::zeros: return narrow_sample<T>(sample_axis<Border::zeros>(q, n));
    case Border::reflect: return narrow_sample<T>(sample_axis<Border::reflect>(q, n));
    default: return narrow_sample<T>(sample_axis<Border::clamp>(q, n));
  }
}

// The nearest voxel on one axis; -1 outside (border zeros).
template <class T>
MEDSYNTH_HD int64_t axis_nearest(Border border, int64_t base, T local, int64_t n) {
  const T whole = std::rint(local);
  if (whole > T(-16777216) && whole < T(16777216)) {
    const int64_t i = base + static_cast<int64_t>(whole);
    if (i >= 0 && i < n) return i;
  }
  const double q = static_cast<double>(base) + static_cast<double>(local);
  switch (border) {
    case Border::zeros: return nearest_index<Border::zeros>(q, n);
    case Border::reflect: return nearest_index<Border::reflect>(q, n);
    default: return nearest_index<Border::clamp>(q, n);
  }
}

template <class T>
MEDSYNTH_HD bool is_lost(const Location<T>& at) {
  return at.local[0] != at.local[0] || at.local[1] != at.local[1] || at.local[2] != at.local[2];
}

// The element of nearest sampling, -1 outside.
template <class T>
MEDSYNTH_HD int64_t nearest_element(const WarpParams& p, const Location<T>& at) {
  const int64_t z = axis_nearest(p.border, at.base[0], at.local[0], p.src_size[0]);
  const int64_t y = axis_nearest(p.border, at.base[1], at.local[1], p.src_size[1]);
  const int64_t x = axis_nearest(p.border, at.base[2], at.local[2], p.src_size[2]);
  return (z < 0 || y < 0 || x < 0) ? -1 : (z * p.src_size[1] + y) * p.src_size[2] + x;
}

// The eight voxels around a location.
template <class T>
struct Cell {
  AxisSample<T> axis[3];
  int64_t first;    // element of the lowest corner
  int64_t step[3];  // distance to the upper corner along each axis
  bool zeros;       // border zeros: weights need not sum to one

  MEDSYNTH_HD T mix(int d, T a, T b) const {
    const AxisSample<T>& s = axis[d];
    return zeros ? a * s.w0 + b * s.w1 : std::fma(b - a, s.w1, a);
  }
  MEDSYNTH_HD T slope(int d, T a, T b) const { return a * axis[d].d0 + b * axis[d].d1; }
};

template <class T>
MEDSYNTH_HD Cell<T> cell_at(const WarpParams& p, const Location<T>& at) {
  Cell<T> c;
  for (int d = 0; d < 3; ++d) c.axis[d] = axis_linear(p.border, at.base[d], at.local[d], p.src_size[d]);
  const int64_t row = p.src_size[2], plane = p.src_size[1] * row;
  c.first = c.axis[0].index * plane + c.axis[1].index * row + c.axis[2].index;
  c.step[0] = c.axis[0].next * plane;
  c.step[1] = c.axis[1].next * row;
  c.step[2] = c.axis[2].next;
  c.zeros = p.border == Border::zeros;
  return c;
}

// The values at the eight corners, less the fill value that stands outside.
template <class T>
MEDSYNTH_HD void load_corners(const Cell<T>& c, const T* src, T fill, T v[2][2][2]) {
  for (int k = 0; k < 8; ++k) {
    const int z = k >> 2, y = (k >> 1) & 1, x = k & 1;
    v[z][y][x] = src[c.first + z * c.step[0] + y * c.step[1] + x * c.step[2]] - fill;
  }
}

template <class T>
MEDSYNTH_HD T linear_value(const Cell<T>& c, const T* src, T fill) {
  const T outside = c.zeros ? fill : T(0);
  T v[2][2][2];
  load_corners(c, src, outside, v);
  const T low = c.mix(1, c.mix(2, v[0][0][0], v[0][0][1]), c.mix(2, v[0][1][0], v[0][1][1]));
  const T high = c.mix(1, c.mix(2, v[1][0][0], v[1][0][1]), c.mix(2, v[1][1][0], v[1][1][1]));
  return c.mix(0, low, high) + outside;
}

// Adds g times the derivative of the value to the location.
template <class T>
MEDSYNTH_HD void add_location_gradient(const Cell<T>& c, const T* src, T fill, T g, T grad[3]) {
  T v[2][2][2];
  load_corners(c, src, c.zeros ? fill : T(0), v);
  const T a = c.mix(2, v[0][0][0], v[0][0][1]), b = c.mix(2, v[0][1][0], v[0][1][1]);
  const T e = c.mix(2, v[1][0][0], v[1][0][1]), f = c.mix(2, v[1][1][0], v[1][1][1]);
  grad[0] = std::fma(g, c.slope(0, c.mix(1, a, b), c.mix(1, e, f)), grad[0]);
  grad[1] = std::fma(g, c.mix(0, c.slope(1, a, b), c.slope(1, e, f)), grad[1]);
  const T low = c.mix(1, c.slope(2, v[0][0][0], v[0][0][1]), c.slope(2, v[0][1][0], v[0][1][1]));
  const T high = c.mix(1, c.slope(2, v[1][0][0], v[1][0][1]), c.slope(2, v[1][1][0], v[1][1][1]));
  grad[2] = std::fma(g, c.mix(0, low, high), grad[2]);
}

// The label with the largest sum of the n weights, which add up to one; ties go to the smallest label.
template <class T, class L>
MEDSYNTH_HD L most_votes(const L* label, const T* weight, int n) {
  L best = label[0];
  T most = T(-1);
  for (int i = 0; i < n; ++i) {
    T sum = T(0);
    for (int k = 0; k < n; ++k) sum += label[k] == label[i] ? weight[k] : T(0);
    if (sum > T(0.51)) return label[i];  // more than all others together, whatever rounding does
    if (sum > most || (sum == most && label[i] < best)) {
      most = sum;
      best = label[i];
    }
  }
  return best;
}

// The label with the largest sum of linear weights; ties go to the smallest label.
// `src[i]` gives voxel i as an L.
template <class T, class L, class Source>
MEDSYNTH_HD L vote_label(const WarpParams& p, const Location<T>& at, const Source& src) {
  const L fill = static_cast<L>(p.label_fill);
  if (is_lost(at)) {
    const int64_t i = nearest_element(p, at);
    return i < 0 ? fill : src[i];
  }
  const Cell<T> c = cell_at(p, at);
  L label[9];
  T weight[9];
  T inside = T(1);
  for (int d = 0; d < 3; ++d) inside *= c.axis[d].w0 + c.axis[d].w1;
  bool same = true;
  for (int k = 0; k < 8; ++k) {
    const int z = k >> 2, y = (k >> 1) & 1, x = k & 1;
    label[k] = src[c.first + z * c.step[0] + y * c.step[1] + x * c.step[2]];
    weight[k] =
        (z ? c.axis[0].w1 : c.axis[0].w0) * (y ? c.axis[1].w1 : c.axis[1].w0) * (x ? c.axis[2].w1 : c.axis[2].w0);
    same = same && label[k] == label[0];
  }
  const bool partly_outside = c.zeros && T(1) - inside > T(1e-6);
  if (same && !partly_outside) return label[0];
  label[8] = fill;
  weight[8] = T(1) - inside;
  return most_votes(label, weight, partly_outside ? 9 : 8);
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
