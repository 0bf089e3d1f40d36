// Where a location falls on one axis of a grid: the rules that every sampling operator shares, for host and device.
//
// A location q is in index coordinates: voxel centres at integers 0..n-1. Linear sampling reads `index` and
// `index + next` (both in range, whatever q is, NaN and infinities included) with weights w0 and w1; d0 and d1 are the
// weights' derivatives to q, those of the cell [floor(q), floor(q) + 1] at an integer q. The last cell is [n-2, n-1].
//   clamp    q is moved into [0, n-1]; derivative 0 where it was outside
//   zeros    voxels outside the grid count as 0 (grid_sample's rule)
//   reflect  about the voxel centres 0 and n-1 (period 2n-2)
// A NaN location gives NaN weights, so the sample is NaN; nearest sampling leaves that decision to the caller.
#pragma once
#include <cmath>
#include <cstdint>

#include "../common/isa.h"

namespace medsynth {

enum class Border : int32_t { clamp = 0, zeros = 1, reflect = 2 };

inline namespace MEDSYNTH_ISA_NAMESPACE {

template <class T>
struct AxisSample {
  int64_t index;  // base voxel, in [0, n-1]
  int64_t next;   // distance to the second voxel: 1, or 0 on an axis of one voxel
  T w0, w1;       // weights of the two voxels
  T d0, d1;       // their derivatives to the location
};

// Folds q >= 0 into [0, n-1]; true when the direction was reversed.
template <class T>
MEDSYNTH_HD bool fold_reflect(T& q, T last) {
  if (!(q > last)) return false;
  if (!(last > 0)) {
    q = q - q;  // one voxel: 0, and NaN for an infinite q
    return false;
  }
  const T period = last + last;
  if (q > period) q = std::fmod(q, period);
  if (!(q > last)) return false;
  q = period - q;
  return true;
}

// The two voxels and weights of linear sampling at q on an axis of n >= 1 voxels.
template <Border B, class T>
MEDSYNTH_HD AxisSample<T> sample_axis(T q, int64_t n) {
  const T last = static_cast<T>(n - 1);
  AxisSample<T> s{0, n > 1 ? 1 : 0, T(1), T(0), T(0), T(0)};
  if (q != q) {
    s.w0 = s.w1 = s.d0 = s.d1 = q;
    return s;
  }
  if constexpr (B == Border::zeros) {
    if (!(q > T(-1) && q < static_cast<T>(n))) {
      s.w0 = T(0);
      return s;
    }
    const T floor_q = std::floor(q);
    const T w = q - floor_q;
    const int64_t f = static_cast<int64_t>(floor_q);
    if (f < 0) {  // only the upper corner, voxel 0, is inside
      s.w0 = w;
      s.d0 = T(1);
    } else if (f >= n - 1) {  // only the lower corner, voxel n-1, is inside
      s.index = n > 1 ? n - 2 : 0;
      s.w0 = n > 1 ? T(0) : T(1) - w;
      s.d0 = n > 1 ? T(0) : T(-1);
      s.w1 = n > 1 ? T(1) - w : T(0);
      s.d1 = n > 1 ? T(-1) : T(0);
    } else {
      s.index = f;
      s.w0 = T(1) - w;
      s.w1 = w;
      s.d0 = T(-1);
      s.d1 = T(1);
    }
    return s;
  } else {
    T slope = T(1);
    if constexpr (B == Border::clamp) {
      if (q < T(0) || q > last) slope = T(0);
      q = q < T(0) ? T(0) : (q > last ? last : q);
    } else {
      if (q < T(0)) {
        q = -q;
        slope = T(-1);
      }
      if (fold_reflect(q, last)) slope = -slope;
      if (q != q) {
        s.w0 = s.w1 = s.d0 = s.d1 = q;
        return s;
      }
    }
    if (n == 1) return s;
    int64_t f = static_cast<int64_t>(q);
    if (f > n - 2) f = n - 2;
    s.index = f;
    s.w1 = q - static_cast<T>(f);
    s.w0 = T(1) - s.w1;
    s.d0 = -slope;
    s.d1 = slope;
    return s;
  }
}

// The value between a = v[index] and b = v[index + next]. Exact where a == b, unless the border is zeros.
template <Border B, class T, class V>
MEDSYNTH_HD V blend(const AxisSample<T>& s, const V& a, const V& b) {
  if constexpr (B == Border::zeros) {
    return a * s.w0 + b * s.w1;
  } else {
    return (b - a) * s.w1 + a;
  }
}

// The derivative of that value to the location.
template <Border B, class T, class V>
MEDSYNTH_HD V blend_slope(const AxisSample<T>& s, const V& a, const V& b) {
  if constexpr (B == Border::zeros) {
    return a * s.d0 + b * s.d1;
  } else {
    return (b - a) * s.d1;
  }
}

// The voxel of nearest sampling at q: half to even, then the border rule; -1 means outside (zeros: the fill value).
// A NaN counts as outside for zeros and as voxel 0 else; operators on images test for NaN themselves.
template <Border B, class T>
MEDSYNTH_HD int64_t nearest_index(T q, int64_t n) {
  const T last = static_cast<T>(n - 1);
  if (q != q) return B == Border::zeros ? -1 : 0;
  T r = std::rint(q);
  if constexpr (B == Border::zeros) {
    if (!(r >= T(0) && r <= last)) return -1;
  } else if constexpr (B == Border::clamp) {
    r = r < T(0) ? T(0) : (r > last ? last : r);
  } else {
    r = r < T(0) ? -r : r;
    fold_reflect(r, last);
    if (r != r) return 0;
  }
  const int64_t i = static_cast<int64_t>(r);
  return i > n - 1 ? n - 1 : i;
}

// Turns a run-time border into a compile-time one: dispatch_border(b, [&](auto tag) { f<decltype(tag)::value>(...); }).
template <Border B>
struct BorderTag {
  static constexpr Border value = B;
};

template <class F>
void dispatch_border(Border border, F&& f) {
  switch (border) {
    case Border::zeros: f(BorderTag<Border::zeros>{}); break;
    case Border::reflect: f(BorderTag<Border::reflect>{}); break;
    default: f(BorderTag<Border::clamp>{}); break;
  }
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
