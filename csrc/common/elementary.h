// Logarithm, exponential, sine and cosine from polynomials with explicit fma: one source for scalars, vectors and CUDA,
// within about 2 units in the last place and normally equal to the last bit everywhere.
#pragma once
#include "lanes.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

// ln(x 2^-shift) of a positive normal x given by its bits. x = m 2^e with m in [sqrt(1/2), sqrt(2)).
template <class F>
MEDSYNTH_HD F log_of_bits(typename LaneTypes<F>::I bits, int shift) {
  using I = typename LaneTypes<F>::I;
  const I above = bits - (0x3f3504f3 + (shift << 23));  // e - shift, and how far m lies above sqrt(1/2)
  const F t = bit_copy<F>(static_cast<I>((above & 0x7fffff) + 0x3f3504f3)) - 1.0f;
  F p = splat<F>(7.0376836292e-2f);
  p = fma_of(p, t, splat<F>(-1.1514610310e-1f));
  p = fma_of(p, t, splat<F>(1.1676998740e-1f));
  p = fma_of(p, t, splat<F>(-1.2420140846e-1f));
  p = fma_of(p, t, splat<F>(1.4249322787e-1f));
  p = fma_of(p, t, splat<F>(-1.6668057665e-1f));
  p = fma_of(p, t, splat<F>(2.0000714765e-1f));
  p = fma_of(p, t, splat<F>(-2.4999993993e-1f));
  p = fma_of(p, t, splat<F>(3.3333331174e-1f));
  p = fma_of(p, t, splat<F>(-0.5f));
  const F n = to_float(static_cast<I>(above >> 23));
  p = fma_of(p, t * t, n * 0x1.7f7d1cp-20f);  // low part of ln 2
  return fma_of(n, splat<F>(0x1.62e4p-1f), t + p);
}

// ln(x) for positive normal float x.
template <class F>
MEDSYNTH_HD F log_of(F x) {
  return log_of_bits<F>(bit_copy<typename LaneTypes<F>::I>(x), 0);
}

// exp(x); x is cut to [-87.3, 88.3], so the result is a positive normal number.
template <class F>
MEDSYNTH_HD F exp_of(F x) {
  using I = typename LaneTypes<F>::I;
  x = larger(splat<F>(-87.3f), x);
  x = smaller(splat<F>(88.3f), x);
  const F shifted = fma_of(x, splat<F>(0x1.715476p+0f), splat<F>(0x1.8p+23f));  // rounds to the nearest integer
  const F n = shifted - 0x1.8p+23f;
  F r = fma_of(n, splat<F>(-0x1.62e4p-1f), x);
  r = fma_of(n, splat<F>(-0x1.7f7d1cp-20f), r);
  F p = splat<F>(1.9875691500e-4f);
  p = fma_of(p, r, splat<F>(1.3981999507e-3f));
  p = fma_of(p, r, splat<F>(8.3334519073e-3f));
  p = fma_of(p, r, splat<F>(4.1665795894e-2f));
  p = fma_of(p, r, splat<F>(1.6666665459e-1f));
  p = fma_of(p, r, splat<F>(5.0000001201e-1f));
  p = fma_of(p, r * r, r) + 1.0f;
  return bit_copy<F>(static_cast<I>(bit_copy<I>(p) + (bit_copy<I>(shifted) << 23)));
}

// x^p for x >= 0 (0 gives 0, negative or NaN gives NaN); p > 0. The error is below one unit in the last place of 1.
template <class F>
MEDSYNTH_HD F pow_of(F x, F p) {
  const F y = exp_of(p * log_of(x));
  const F zero = splat<F>(0.0f);
  const F tiny = splat<F>(0x1p-126f);
  const F clean = x < tiny ? zero : y;  // also cuts denormal numbers, which log_of does not take
  return x >= zero ? clean : splat<F>(NAN);
}

// Sine and cosine of 2 pi u for u = (r >> 8) 2^-24: the quarter turn comes from the upper bits of r, exactly.
template <class F>
MEDSYNTH_HD void sincos_turn(typename LaneTypes<F>::U r, F& s, F& c) {
  using I = typename LaneTypes<F>::I;
  using U = typename LaneTypes<F>::U;
  const I w = bit_copy<I>(static_cast<U>((r & 0xFFFFFF00u) << 2));
  const U turned = r + 0x20000000u;  // the quarter in bits 31 and 30
  const F x = to_float(w) * 0x1.921fb6p-32f;
  const F x2 = x * x;
  F ps = splat<F>(-1.9515295891e-4f);
  ps = fma_of(ps, x2, splat<F>(8.3321608736e-3f));
  ps = fma_of(ps, x2, splat<F>(-1.6666654611e-1f));
  const F sine = fma_of(ps, x2 * x, x);
  F pc = splat<F>(2.443315711809948e-5f);
  pc = fma_of(pc, x2, splat<F>(-1.388731625493765e-3f));
  pc = fma_of(pc, x2, splat<F>(4.166664568298827e-2f));
  pc = fma_of(pc, x2, splat<F>(-0.5f));
  const F cosine = fma_of(pc, x2, splat<F>(1.0f));
  const auto swapped = (turned & 0x40000000u) != 0;
  const F a = swapped ? cosine : sine;
  const F b = swapped ? sine : cosine;
  s = bit_copy<F>(static_cast<U>(bit_copy<U>(a) ^ (turned & 0x80000000u)));
  c = bit_copy<F>(static_cast<U>(bit_copy<U>(b) ^ ((turned + 0x40000000u) & 0x80000000u)));
}

// The same in float64, scalar only (coefficients of Sun's fdlibm).
MEDSYNTH_HD double log_of(double x) {
  const int64_t bits = bit_copy<int64_t>(x);
  const int64_t e = (bits - 0x3fe6a09e667f3bcd) >> 52;
  const double t = bit_copy<double>(bits - e * (int64_t{1} << 52)) - 1.0;
  const double s = t / (2.0 + t);
  const double z = s * s;
  double r = 1.479819860511658591e-01;
  r = fma_of(r, z, 1.531383769920937332e-01);
  r = fma_of(r, z, 1.818357216161805012e-01);
  r = fma_of(r, z, 2.222219843214978396e-01);
  r = fma_of(r, z, 2.857142874366239149e-01);
  r = fma_of(r, z, 3.999999999940941908e-01);
  r = fma_of(r, z, 6.666666666666735130e-01) * z;
  const double half = 0.5 * t * t;
  const double n = static_cast<double>(e);
  const double low = fma_of(s, half + r, n * 1.90821492927058770002e-10);
  return fma_of(n, 6.93147180369123816490e-01, t - (half - low));
}

MEDSYNTH_HD double exp_of(double x) {
  x = x < -708.0 ? -708.0 : x;
  x = x > 709.0 ? 709.0 : x;
  const double shifted = fma_of(x, 0x1.71547652b82fep+0, 0x1.8p+52);
  const double n = shifted - 0x1.8p+52;
  double r = fma_of(n, -6.93147180369123816490e-01, x);
  r = fma_of(n, -1.90821492927058770002e-10, r);
  double p = 1.6059043836821613e-10;  // Taylor to r^13: below 2e-17 on |r| <= ln(2) / 2
  p = fma_of(p, r, 2.08767569878680990e-9);
  p = fma_of(p, r, 2.50521083854417188e-8);
  p = fma_of(p, r, 2.75573192239858907e-7);
  p = fma_of(p, r, 2.75573192239858907e-6);
  p = fma_of(p, r, 2.48015873015873016e-5);
  p = fma_of(p, r, 1.98412698412698413e-4);
  p = fma_of(p, r, 1.38888888888888889e-3);
  p = fma_of(p, r, 8.33333333333333333e-3);
  p = fma_of(p, r, 4.16666666666666667e-2);
  p = fma_of(p, r, 1.66666666666666667e-1);
  p = fma_of(p, r, 0.5);
  p = fma_of(p, r * r, r) + 1.0;
  return bit_copy<double>(bit_copy<uint64_t>(p) + (bit_copy<uint64_t>(shifted) << 52));
}

MEDSYNTH_HD double pow_of(double x, double p) {
  const double y = exp_of(p * log_of(x));
  return x >= 0.0 ? (x < 0x1p-1022 ? 0.0 : y) : static_cast<double>(NAN);
}

// Sine and cosine of 2 pi u for u = (bits >> 11) 2^-53.
MEDSYNTH_HD void sincos_turn(uint64_t bits, double& s, double& c) {
  const int64_t w = static_cast<int64_t>((bits & ~uint64_t{0x7FF}) << 2);
  const uint64_t quarter = (bits + (uint64_t{1} << 61)) >> 62;
  const double x = static_cast<double>(w) * (1.57079632679489661923 * 0x1p-64);
  const double z = x * x;
  double ps = 1.58969099521155010221e-10;
  ps = fma_of(ps, z, -2.50507602534068634195e-08);
  ps = fma_of(ps, z, 2.75573137070700676789e-06);
  ps = fma_of(ps, z, -1.98412698298579493134e-04);
  ps = fma_of(ps, z, 8.33333333332248946124e-03);
  ps = fma_of(ps, z, -1.66666666666666324348e-01);
  const double sine = fma_of(ps, z * x, x);
  double pc = -1.13596475577881948265e-11;
  pc = fma_of(pc, z, 2.08757232129817482790e-09);
  pc = fma_of(pc, z, -2.75573143513906633035e-07);
  pc = fma_of(pc, z, 2.48015872894767294178e-05);
  pc = fma_of(pc, z, -1.38888888888741095749e-03);
  pc = fma_of(pc, z, 4.16666666666666019037e-02);
  const double cosine = fma_of(fma_of(pc, z, -0.5), z, 1.0);
  const double a = (quarter & 1) != 0 ? cosine : sine;
  const double b = (quarter & 1) != 0 ? sine : cosine;
  s = (quarter & 2) != 0 ? -a : a;
  c = ((quarter + 1) & 2) != 0 ? -b : b;
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
