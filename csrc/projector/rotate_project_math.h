// One ray of rotate_project and one pixel of its transpose.
#pragma once
#include <cmath>

#include "../common/lanes.h"
#include "rotate_project.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

constexpr double kPi = 3.14159265358979323846;

// Linear weight of a pixel at a distance.
template <class T>
MEDSYNTH_HD T tent(T distance) {
  const T w = T(1) - (distance < T(0) ? -distance : distance);
  return w > T(0) ? w : T(0);
}

// The image at (x, y) from its centre.
template <class T>
MEDSYNTH_HD T sample_centred(const T* image, int64_t size, int64_t center, T x, T y) {
  const T left = floor(x), top = floor(y), fx = x - left, fy = y - top;
  const int64_t j = static_cast<int64_t>(left) + center, i = static_cast<int64_t>(top) + center;
  const bool j0 = j >= 0 && j < size, j1 = j + 1 >= 0 && j + 1 < size;
  const T* row = image + i * size + j;
  T value = T(0);
  if (i >= 0 && i < size) {
    if (j0) value = fma_of((T(1) - fx) * (T(1) - fy), row[0], value);
    if (j1) value = fma_of(fx * (T(1) - fy), row[1], value);
  }
  if (i + 1 >= 0 && i + 1 < size) {
    if (j0) value = fma_of((T(1) - fx) * fy, row[size], value);
    if (j1) value = fma_of(fx * fy, row[size + 1], value);
  }
  return value;
}

// What the rays of one view give to the pixel at (x, y) from the centre. Samples lie on a turned grid of step 1; those
// that touch the pixel are less than sqrt(2) away.
template <class T>
MEDSYNTH_HD T gather_turned(const T* bins, int64_t size, int64_t center, double x, double y, double cosine,
                            double sine) {
  const double t = x * cosine - y * sine, r = x * sine + y * cosine;
  const int64_t t0 = static_cast<int64_t>(floor(t)) - 1, r0 = static_cast<int64_t>(floor(r)) - 1;
  T total = T(0);
  for (int64_t ti = t0; ti < t0 + 4; ++ti) {
    if (ti < -center || ti >= size - center) continue;
    const double dt = static_cast<double>(ti) - t;
    T weight = T(0);
    for (int64_t ri = r0; ri < r0 + 4; ++ri) {
      if (ri < -center || ri >= size - center) continue;
      const double dr = static_cast<double>(ri) - r;
      weight += static_cast<T>(tent(dt * cosine + dr * sine) * tent(dr * cosine - dt * sine));
    }
    total = fma_of(weight, bins[ti + center], total);
  }
  return total;
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
