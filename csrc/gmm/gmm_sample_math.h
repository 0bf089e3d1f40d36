#pragma once
#include "../common/normal.h"
#include "gmm_sample.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

template <class T>
struct Gaussian {
  T mean, std;
};

// What a label value means in plane (b, c); NaN where it has no class.
template <class T>
MEDSYNTH_HD Gaussian<T> gaussian_of(const GmmSampleParams& p, int64_t b, int64_t c, uint64_t label) {
  const int64_t k = p.class_of(label);
  if (k < 0) return {static_cast<T>(NAN), static_cast<T>(NAN)};
  const int64_t at = (b * p.classes + k) * p.channels + c;
  return {static_cast<const T*>(p.means)[at], static_cast<const T*>(p.stds)[at]};
}

// A label as an unsigned number, so that a negative one is a large one.
template <class L>
MEDSYNTH_HD uint64_t label_value(L label) {
  return static_cast<uint64_t>(static_cast<int64_t>(label));
}

template <class T>
MEDSYNTH_HD T intensity(const Gaussian<T>& g, T noise) {
  return fma_of(g.std, noise, g.mean);
}

MEDSYNTH_HD RandomKey plane_key(const GmmSampleParams& p, int64_t b, int64_t c) {
  return random_key(p.seed, p.sample_offset + static_cast<uint32_t>(b), p.stream, static_cast<uint32_t>(c));
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
