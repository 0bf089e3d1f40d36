#include "operators.h"

#include <dlfcn.h>

#include <cmath>
#include <stdexcept>

namespace medsynth {

using at::IntArrayRef;
using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

void load_operators(const std::string& path) {
  if (dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL) == nullptr) throw std::runtime_error(dlerror());
}

Tensor rand_normal(IntArrayRef shape, int64_t seed) {
  static auto fill =
      find<void(c10::SymInt, c10::SymInt, int64_t, IntArrayRef, IntArrayRef, const Tensor&)>("rand_normal_out");
  Tensor out = at::empty(shape);
  fill.call(seed, /*sample_offset=*/0, /*stream=*/0, /*index_shape=*/{}, /*index_origin=*/{}, out);
  return out;
}

Tensor resize_field(const Tensor& field, IntArrayRef size) {
  static auto resample =
      find<Tensor(const Tensor&, IntArrayRef, int64_t, int64_t, int64_t, at::ArrayRef<double>)>("resample");
  std::vector<double> scale;  // a displacement keeps its length in millimetres, not in voxels
  for (size_t d = 0; d < size.size(); ++d) scale.push_back(double(size[d]) / double(field.size(d + 2)));
  return resample.call(field, size, half_pixel, linear, clamp, scale);
}

Tensor integrate_svf(const Tensor& velocity, int64_t steps) {
  static auto integrate = find<Tensor(const Tensor&, int64_t, int64_t, bool)>("integrate_svf");
  return integrate.call(velocity, steps, clamp, /*inverse=*/false);
}

Tensor jacobian_determinant(const Tensor& displacement) {
  static auto determinant = find<Tensor(const Tensor&)>("jacobian_determinant");
  return determinant.call(displacement);
}

Tensor warp(const Tensor& image, const Tensor& displacement) {
  static auto warp = find<Tensor(const Tensor&, const Tensor&, int64_t, int64_t, double)>("warp");
  return warp.call(image, displacement, linear, clamp, /*fill=*/0.0);
}

Tensor warp_labels(const Tensor& labels, const Tensor& displacement) {
  static auto warp = find<Tensor(const Tensor&, const Tensor&, int64_t, int64_t, int64_t)>("warp_labels");
  return warp.call(labels, displacement, nearest, clamp, /*fill=*/0);
}

Tensor gmm_sample(const Tensor& labels, const Tensor& means, const Tensor& stds, int64_t seed) {
  static auto sample = find<Tensor(const Tensor&, const Tensor&, const Tensor&, const OptionalTensor&, c10::SymInt,
                                   c10::SymInt, int64_t, IntArrayRef, IntArrayRef, bool)>("gmm_sample");
  auto table = [&](const Tensor& t) { return t.view({1, -1, 1}).expand({labels.size(0), -1, 1}).contiguous(); };
  return sample.call(labels.squeeze(1), table(means), table(stds), /*lut=*/std::nullopt, seed, /*sample_offset=*/0,
                     /*stream=*/0, /*index_shape=*/{}, /*index_origin=*/{}, /*validate=*/true);
}

Tensor project_parallel(const Tensor& volume, at::ArrayRef<double> angles, int64_t rows, int64_t cols) {
  static auto forward = find<Tensor(const Tensor&, const Tensor&, IntArrayRef, at::ArrayRef<double>,
                                    at::ArrayRef<double>, bool, bool, bool)>("ct_forward");
  std::vector<double> frames;  // per view, all (x, y, z): direction, detector's centre, step along a row, up a column
  for (double t : angles) {
    for (double v : {sin(t), -cos(t), 0.0, 0.0, 0.0, 0.0, cos(t), sin(t), 0.0, 0.0, 0.0, 1.0}) frames.push_back(v);
  }
  Tensor vectors = at::tensor(frames, at::kDouble).view({-1, 12});
  return forward.call(volume, vectors, {rows, cols}, /*spacing_mm=*/{1.0, 1.0, 1.0}, /*center_mm=*/{0.0, 0.0, 0.0},
                      /*diverging=*/false, /*flat=*/false, /*siddon=*/false);
}

}  // namespace medsynth
