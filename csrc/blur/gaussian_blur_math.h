#pragma once
#include "../common/lanes.h"
#include "gaussian_blur.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

// Standard deviation along padded axis d of sample b; 0 on padding axes.
MEDSYNTH_HD double blur_sigma(const GaussianBlurParams& p, int64_t b, int d) {
  const int64_t axis = d - (3 - p.axes);
  return axis < 0 ? 0.0 : p.sigma[b * p.axes + axis];
}

// Taps on each side; 0 means that the axis is left alone.
MEDSYNTH_HD int64_t blur_radius(double sigma, double truncate) {
  const double r = ceil(truncate * sigma);
  return r >= 1.0 ? (r < static_cast<double>(kBlurMaxRadius) ? static_cast<int64_t>(r) : kBlurMaxRadius) : 0;
}

// Weight of tap k before normalisation.
MEDSYNTH_HD double blur_weight(int64_t k, double sigma) {
  const double z = static_cast<double>(k) / sigma;
  return exp(-0.5 * z * z);
}

// The voxel that position i stands for, -1 for none.
MEDSYNTH_HD int64_t blur_source(int64_t i, int64_t n, BlurBorder border) {
  if (i >= 0 && i < n) return i;
  if (border == BlurBorder::zeros) return -1;
  if (border == BlurBorder::replicate) return i < 0 ? 0 : n - 1;
  const int64_t period = n > 1 ? 2 * n - 2 : 1;
  int64_t m = i % period;
  m = m < 0 ? m + period : m;
  return m < n ? m : period - m;
}

// One output of one axis: line[q * stride] are the n inputs, weight(k) the weight of tap k >= 0, r the taps on each
// side.
template <class T, class Weight>
MEDSYNTH_HD T blur_gather(const T* line, int64_t stride, int64_t n, int64_t i, int64_t r, BlurBorder border,
                          Weight weight) {
  T sum = 0;
  if (i - r >= 0 && i + r < n) {
    for (int64_t k = -r; k <= r; ++k) sum = fma_of(weight(k < 0 ? -k : k), line[(i + k) * stride], sum);
    return sum;
  }
  for (int64_t k = -r; k <= r; ++k) {
    const int64_t q = blur_source(i + k, n, border);
    if (q >= 0) sum = fma_of(weight(k < 0 ? -k : k), line[q * stride], sum);
  }
  return sum;
}

// The same for the transposed band: all positions in [-r, n - 1 + r] that stand for j hand on what was read there.
template <class T, class Weight>
MEDSYNTH_HD T blur_gather_transposed(const T* line, int64_t stride, int64_t n, int64_t j, int64_t r, BlurBorder border,
                                     Weight weight) {
  T sum = 0;
  const auto hand_on = [&](int64_t position) {
    const int64_t first = position - r > 0 ? position - r : 0, last = position + r < n - 1 ? position + r : n - 1;
    for (int64_t q = first; q <= last; ++q) {
      sum = fma_of(weight(q < position ? position - q : q - position), line[q * stride], sum);
    }
  };
  if (border == BlurBorder::replicate || n == 1) {
    const bool outside = border != BlurBorder::zeros;
    const int64_t last = j == n - 1 && outside ? n - 1 + r : j;
    for (int64_t position = j == 0 && outside ? -r : j; position <= last; ++position) hand_on(position);
  } else if (border == BlurBorder::zeros) {
    hand_on(j);
  } else {
    const int64_t period = 2 * n - 2;
    for (int64_t position = j - (j + r) / period * period; position < n + r; position += period) hand_on(position);
    if (j == 0 || j == n - 1) return sum;
    const int64_t mirror = period - j;  // the same voxel seen from behind the last one
    for (int64_t position = mirror - (mirror + r) / period * period; position < n + r; position += period)
      hand_on(position);
  }
  return sum;
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
