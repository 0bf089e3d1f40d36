// The medsynth_ext operators for C++ programs. Their schemas, a comment each, are in csrc/registration.cpp.
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <string>

namespace medsynth {

// Loads the operator library, whose path medsynth_ext.operator_library() tells, into this process. Throws
// std::runtime_error with the linker's sentence when it cannot be loaded.
void load_operators(const std::string& path);

// An operator by its name and C++ signature; c10::Error when there is none or the signature is another one.
// Arguments of the schema become: Tensor const at::Tensor&, Tensor? const std::optional<at::Tensor>&, int int64_t,
// SymInt c10::SymInt, float double, bool bool, int[] at::IntArrayRef, float[] at::ArrayRef<double>.
template <class Signature>
auto find(const std::string& name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(("medsynth_ext::" + name).c_str(), "").typed<Signature>();
}

// The code of an option that the Python functions take by name.
enum Border : int64_t { clamp = 0, zeros = 1, reflect = 2 };
enum Sampling : int64_t { linear = 0, nearest = 1, vote = 2 };
enum Rule : int64_t { corner = 0, half_pixel = 1, align_corners = 2 };

at::Tensor rand_normal(at::IntArrayRef shape, int64_t seed);                       // (B, C, *S)
at::Tensor resize_field(const at::Tensor& field, at::IntArrayRef size);            // (B, D, *S) in voxels, half pixels
at::Tensor integrate_svf(const at::Tensor& velocity, int64_t steps);               // (B, D, *S) in voxels
at::Tensor jacobian_determinant(const at::Tensor& displacement);                   // (B, 1, *S)
at::Tensor warp(const at::Tensor& image, const at::Tensor& displacement);          // linear, clamped
at::Tensor warp_labels(const at::Tensor& labels, const at::Tensor& displacement);  // nearest, clamped
at::Tensor gmm_sample(const at::Tensor& labels, const at::Tensor& means, const at::Tensor& stds, int64_t seed);

// Line integrals of volumes (N, Z, Y, X) in parallel beams that turn about z, angles in radians: (N, views, rows,
// cols). Voxels and pixels of 1 mm, both centred.
at::Tensor project_parallel(const at::Tensor& volume, at::ArrayRef<double> angles, int64_t rows, int64_t cols);

}  // namespace medsynth
