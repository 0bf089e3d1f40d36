// Launch helpers for the .cu files, which include no torch header.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>

namespace medsynth {

inline void check_launch(const char* what) {
  const cudaError_t e = cudaGetLastError();
  if (e != cudaSuccess) throw std::runtime_error(std::string(what) + ": CUDA launch failed: " + cudaGetErrorString(e));
}

// Blocks for a grid-stride loop over n elements.
inline unsigned blocks_for(int64_t n, int threads) {
  const int64_t blocks = (n + threads - 1) / threads;
  return static_cast<unsigned>(blocks < 1 ? 1 : blocks > 65535 * 16 ? 65535 * 16 : blocks);
}

}  // namespace medsynth

#define MEDSYNTH_GRID_STRIDE(i, n)                                              \
  for (int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x, \
               i##_step = static_cast<int64_t>(gridDim.x) * blockDim.x;         \
       i < (n); i += i##_step)

// Launches: kernel<<<grid, threads, 0, stream>>>(parameters...). A kernel with more than one template argument stands
// in parentheses. csrc/emulation has another meaning for these, which runs the kernels on the CPU.
#ifndef MEDSYNTH_EMULATION
#define MEDSYNTH_LAUNCH_SHARED(kernel, grid, threads, bytes, stream, ...) \
  kernel<<<grid, threads, bytes, stream>>>(__VA_ARGS__)
#define MEDSYNTH_DYNAMIC_SHARED(type, name) extern __shared__ type name[]
#endif
#define MEDSYNTH_LAUNCH(kernel, grid, threads, stream, ...) \
  MEDSYNTH_LAUNCH_SHARED(kernel, grid, threads, 0, stream, __VA_ARGS__)
