#pragma once
#include "gmm_sample_math.h"
#include "synth_image.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

// Two nodes of the bias grid and the weight of the second.
template <class T>
struct BiasNode {
  int64_t low, high;
  T weight;
};

// Where voxel i of axis d reads the grid.
template <class T>
MEDSYNTH_HD BiasNode<T> bias_node(const SynthImageParams& p, int d, int64_t i) {
  const double last = static_cast<double>(p.m[d] - 1);
  double q = static_cast<double>((i + p.origin[d]) * p.m[d]) / static_cast<double>(p.whole[d]);
  q = q < last ? q : last;
  int64_t low = static_cast<int64_t>(q);
  if (low > p.m[d] - 2) low = p.m[d] > 1 ? p.m[d] - 2 : 0;
  return {low, low + 1 < p.m[d] ? low + 1 : p.m[d] - 1, static_cast<T>(q - static_cast<double>(low))};
}

template <class F>
MEDSYNTH_HD F mix(F a, F b, F weight) {
  return fma_of(weight, b - a, a);
}

// Log bias of one voxel: along x, then z, then y.
template <class T>
MEDSYNTH_HD T bias_at(const SynthImageParams& p, const T* grid, const BiasNode<T>& z, const BiasNode<T>& y,
                      const BiasNode<T>& x) {
  const auto along_x = [&](int64_t iz, int64_t iy) {
    const T* row = grid + (iz * p.m[1] + iy) * p.m[2];
    return mix(row[x.low], row[x.high], x.weight);
  };
  const T low = mix(along_x(z.low, y.low), along_x(z.high, y.low), z.weight);
  const T high = mix(along_x(z.low, y.high), along_x(z.high, y.high), z.weight);
  return mix(low, high, y.weight);
}

// What the second pass does to a value: subtract, scale, power.
template <class F>
MEDSYNTH_HD F finish(F value, F low, F scale, bool normalise, bool with_power, F power) {
  if (normalise) {
    value = (value - low) * scale;
    value = smaller(splat<F>(1.0f), value);
  }
  return with_power ? pow_of(value, power) : value;
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
