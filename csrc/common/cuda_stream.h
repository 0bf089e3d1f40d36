// Whether a tensor's kernels are those for CUDA, and the current CUDA stream, for the doors. torch keeps this function
// in its CUDA library, which a CPU-only torch lacks, so it is looked up when the first CUDA tensor arrives.
#pragma once
#include <dlfcn.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdint>

namespace medsynth {

#ifdef MEDSYNTH_EMULATION  // a build for tests: csrc/emulation runs the CUDA kernels on the CPU's tensors

inline bool on_cuda(const torch::stable::Tensor&) { return true; }

struct CudaScope {
  explicit CudaScope(int32_t) {}
  void* stream = nullptr;
};

#else

inline bool on_cuda(const torch::stable::Tensor& tensor) { return tensor.is_cuda(); }

inline void* current_cuda_stream(int32_t device_index) {
  using Getter = int32_t (*)(int32_t, void**);
  static const auto getter = reinterpret_cast<Getter>(dlsym(RTLD_DEFAULT, "aoti_torch_get_current_cuda_stream"));
  STD_TORCH_CHECK(getter != nullptr, "this torch has no CUDA part: aoti_torch_get_current_cuda_stream was not found");
  void* stream = nullptr;
  STD_TORCH_CHECK(getter(device_index, &stream) == 0, "the current CUDA stream could not be read");
  return stream;
}

// Makes the tensor's device current for the scope and holds its stream.
struct CudaScope {
  explicit CudaScope(int32_t device_index) : guard(device_index), stream(current_cuda_stream(device_index)) {}
  torch::stable::accelerator::DeviceGuard guard;
  void* stream;
};

#endif

}  // namespace medsynth
