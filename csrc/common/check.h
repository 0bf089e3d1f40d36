// What every door checks. The Python functions raise TypeError and ValueError with the argument's name; the checks here
// are those that memory safety needs, for C++ callers, and throw a RuntimeError.
#pragma once
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdint>
#include <string>
#include <vector>

#include "types.h"
#include "workspace.h"

namespace medsynth {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline std::string shape_of(const Tensor& t) {
  std::string s = "(";
  for (int64_t d = 0; d < t.dim(); ++d) s += (d ? ", " : "") + std::to_string(t.size(d));
  return s + ")";
}

inline bool is_float(const Tensor& t) {
  return t.scalar_type() == ScalarType::Float || t.scalar_type() == ScalarType::Double;
}

inline DType float_dtype(const Tensor& t, const char* name) {
  STD_TORCH_CHECK(is_float(t), name, " must be float32 or float64");
  return t.scalar_type() == ScalarType::Double ? DType::f64 : DType::f32;
}

inline DType label_dtype(const Tensor& t, const char* name) {
  switch (t.scalar_type()) {
    case ScalarType::Bool:
    case ScalarType::Byte: return DType::u8;
    case ScalarType::Short: return DType::i16;
    case ScalarType::Int: return DType::i32;
    case ScalarType::Long: return DType::i64;
    default: STD_TORCH_CHECK(false, name, " must be bool, uint8, int16, int32 or int64");
  }
  return DType::i64;
}

inline void check_same_device(const Tensor& a, const char* name_a, const Tensor& b, const char* name_b) {
  STD_TORCH_CHECK(a.is_cuda() == b.is_cuda() && a.get_device() == b.get_device(), name_b,
                  " must be on the same device as ", name_a);
}

inline void check_same_dtype(const Tensor& a, const char* name_a, const Tensor& b, const char* name_b) {
  STD_TORCH_CHECK(a.scalar_type() == b.scalar_type(), name_b, " must have the same dtype as ", name_a);
}

inline void check_shape(const Tensor& t, const char* name, const std::vector<int64_t>& want) {
  bool same = t.dim() == static_cast<int64_t>(want.size());
  std::string text = "(";
  for (size_t d = 0; d < want.size(); ++d) {
    text += (d ? ", " : "") + std::to_string(want[d]);
    same = same && t.size(static_cast<int64_t>(d)) == want[d];
  }
  STD_TORCH_CHECK(same, name, " must have shape ", text, "), got ", shape_of(t));
}

constexpr int64_t kFreshBytes = int64_t{8} << 20;  // a smaller block is likely to be one that was used before

// A new tensor on the device of `like` for a kernel to fill.
inline Tensor new_output(const Tensor& like, const std::vector<int64_t>& shape) {
  Tensor out = torch::stable::new_empty(like, shape);
  const int64_t bytes = out.numel() * static_cast<int64_t>(out.element_size());
  if (!out.is_cuda() && bytes >= kFreshBytes) prefer_huge_pages(out.mutable_data_ptr(), bytes);
  return out;
}

// An `out` that a kernel may write to: right shape, dtype, device, and contiguous (no copy back).
inline void check_out(const Tensor& out, const std::vector<int64_t>& shape, const Tensor& like) {
  check_shape(out, "out", shape);
  check_same_device(like, "the input", out, "out");
  STD_TORCH_CHECK(out.is_contiguous(), "out must be contiguous");
}

// The spatial sizes of a (B, C, *S) tensor, S of one to three axes, padded with leading ones to three.
struct Spatial {
  int64_t n[3] = {1, 1, 1};
  int dims = 0;

  int64_t voxels() const { return n[0] * n[1] * n[2]; }
};

inline Spatial spatial_of(const Tensor& t, int64_t first, const char* name) {
  const int64_t dims = t.dim() - first;
  STD_TORCH_CHECK(dims >= 1 && dims <= 3, name, " must have one to three spatial axes, got shape ", shape_of(t));
  Spatial s;
  s.dims = static_cast<int>(dims);
  for (int64_t d = 0; d < dims; ++d) s.n[3 - dims + d] = t.size(first + d);
  return s;
}

}  // namespace medsynth
