#pragma once
#include "../common/elementary.h"
#include "ortho_slice_product.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

// Where exp leaves the normal numbers: 0 below, infinity above.
MEDSYNTH_HD float lowest_exponent(float) { return -87.3f; }
MEDSYNTH_HD float highest_exponent(float) { return 88.3f; }
MEDSYNTH_HD double lowest_exponent(double) { return -708.0; }
MEDSYNTH_HD double highest_exponent(double) { return 709.0; }

template <class T>
MEDSYNTH_HD T slice_product(T z, T y, T x, bool log) {
  if (!log) return x * y * z;
  const T sum = x + y + z;
  const T inside = exp_of(sum);
  const T cut = sum > highest_exponent(sum) ? static_cast<T>(INFINITY) : inside;
  return sum >= lowest_exponent(sum) ? cut : sum != sum ? sum : T{0};
}

// The gradients to the three factors.
template <class T>
MEDSYNTH_HD void slice_product_grad(T grad, T z, T y, T x, bool log, T& to_z, T& to_y, T& to_x) {
  if (log) {
    to_z = to_y = to_x = grad * slice_product(z, y, x, true);
    return;
  }
  to_z = grad * x * y;
  to_y = grad * x * z;
  to_x = grad * y * z;
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
