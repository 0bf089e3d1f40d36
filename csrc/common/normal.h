// Normal numbers from Philox words (Box-Muller), one block at a time, for host and device. float32: a block gives four
// numbers, float64: two (see docs/random_numbers.md). normal_group.h does the same for a vector of blocks.
#pragma once
#include "elementary.h"
#include "philox.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

// Two normals from two words: R cos(2 pi u2) and R sin(2 pi u2), R = sqrt(-2 ln u1), u1 in (0, 1], u2 in [0, 1).
template <class F>
MEDSYNTH_HD void normal_pair(typename LaneTypes<F>::U word1, typename LaneTypes<F>::U word2, F& even, F& odd) {
  using I = typename LaneTypes<F>::I;
  const F count = to_float(bit_copy<I>(static_cast<typename LaneTypes<F>::U>((word1 >> 8) + 1)));
  const F radius = sqrt_of(static_cast<F>(log_of_bits<F>(bit_copy<I>(count), 24) * -2.0f));
  F s, c;
  sincos_turn<F>(word2, s, c);
  even = radius * c;
  odd = radius * s;
}

// Elements per block.
template <class T>
constexpr int kPerBlock = sizeof(T) == 4 ? 4 : 2;

MEDSYNTH_HD void block_normals(const Philox4& w, float (&z)[4]) {
  normal_pair<float>(w.r[0], w.r[1], z[0], z[1]);
  normal_pair<float>(w.r[2], w.r[3], z[2], z[3]);
}

MEDSYNTH_HD void block_normals(const Philox4& w, double (&z)[2]) {
  const double radius = sqrt_of(-2.0 * log_of(uniform_open_low(w.r[0], w.r[1])));
  double s, c;
  sincos_turn(static_cast<uint64_t>(w.r[2]) << 32 | w.r[3], s, c);
  z[0] = radius * c;
  z[1] = radius * s;
}

MEDSYNTH_HD void block_uniforms(const Philox4& w, float (&u)[4]) {
  for (int i = 0; i < 4; ++i) u[i] = uniform_open_high(w.r[i]);
}

MEDSYNTH_HD void block_uniforms(const Philox4& w, double (&u)[2]) {
  u[0] = uniform_open_high(w.r[0], w.r[1]);
  u[1] = uniform_open_high(w.r[2], w.r[3]);
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
