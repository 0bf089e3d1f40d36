// What the .cu files use of CUDA, for one thread of a CPU: the threads of a block are fibers, which run in turn from
// one barrier to the next. For tests of the kernels where there is no GPU; see emulator.cpp for what it finds.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static  // blocks run one after another
#define MEDSYNTH_LAUNCH_SHARED(kernel, grid, threads, bytes, stream, ...) \
  (static_cast<void>(stream), ::emulation::launch(grid, threads, bytes, [=] { kernel(__VA_ARGS__); }))
#define MEDSYNTH_DYNAMIC_SHARED(type, name) type* const name = static_cast<type*>(::emulation::dynamic_shared())

using std::isfinite;
using std::isinf;
using std::isnan;

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) double2 {
  double x, y;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline double2 make_double2(double x, double y) { return {x, y}; }

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

using cudaStream_t = void*;
using cudaError_t = int;
constexpr cudaError_t cudaSuccess = 0;
constexpr int cudaMemcpyHostToDevice = 1;
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t) { return "none"; }
inline cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  std::memset(to, value, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, int, cudaStream_t) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}

namespace emulation {

constexpr unsigned kWarp = 32;
enum class State { ready, at_block_barrier, at_warp_barrier, done };

// Runs the body once per thread of every block. Ends the process for a launch or a barrier that CUDA does not allow.
void launch(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& body);
// Lets the other threads run until all have come here.
void wait(State barrier);
// A word per thread of the block, for what threads tell each other.
uint64_t* words();
void* dynamic_shared();

// The value of lane `from` of the same warp, or one's own where `from` is no lane.
template <class T>
T exchange(T value, unsigned from) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  const unsigned first = threadIdx.x / kWarp * kWarp;
  std::memcpy(words() + threadIdx.x, &value, sizeof value);
  wait(State::at_warp_barrier);
  if (from < kWarp) std::memcpy(&value, words() + first + from, sizeof value);
  wait(State::at_warp_barrier);
  return value;
}

template <class T, class F>
T exchanged_in_memory(T* at, F change) {
  const T before = *at;
  *at = change(before);
  return before;
}

}  // namespace emulation

inline void __syncthreads() { emulation::wait(emulation::State::at_block_barrier); }
inline void __syncwarp(unsigned = 0xFFFFFFFFu) { emulation::wait(emulation::State::at_warp_barrier); }

inline int __syncthreads_and(int predicate) {
  emulation::words()[threadIdx.x] = predicate != 0;
  __syncthreads();
  int all = 1;
  for (unsigned i = 0; i < blockDim.x; ++i) all &= static_cast<int>(emulation::words()[i]);
  __syncthreads();
  return all;
}

template <class T>
T __shfl_sync(unsigned, T value, int lane) {
  return emulation::exchange(value, static_cast<unsigned>(lane) % emulation::kWarp);
}
template <class T>
T __shfl_down_sync(unsigned, T value, int step) {
  return emulation::exchange(value, threadIdx.x % emulation::kWarp + static_cast<unsigned>(step));
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return emulation::exchange(value, (threadIdx.x % emulation::kWarp) ^ static_cast<unsigned>(mask));
}
inline unsigned __ballot_sync(unsigned, int predicate) {
  const unsigned first = threadIdx.x / emulation::kWarp * emulation::kWarp;
  emulation::words()[threadIdx.x] = predicate != 0;
  __syncwarp();
  unsigned ballot = 0;
  for (unsigned i = 0; i < emulation::kWarp; ++i) ballot |= static_cast<unsigned>(emulation::words()[first + i]) << i;
  __syncwarp();
  return ballot;
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline long long __double_as_longlong(double value) { return __builtin_bit_cast(long long, value); }
inline double __longlong_as_double(long long bits) { return __builtin_bit_cast(double, bits); }

// To the nearest, half to even; too large ones saturate and NaN is the smallest, as in CUDA.
inline long long __double2ll_rn(double value) {
  constexpr auto least = std::numeric_limits<long long>::min(), most = std::numeric_limits<long long>::max();
  if (!(value > -9223372036854775808.0)) return least;
  return value >= 9223372036854775808.0 ? most : std::llrint(value);
}

// Sine and cosine of pi * angle, exact at multiples of a half.
inline void sincospi(double angle, double* sine, double* cosine) {
  const double quarters = std::nearbyint(2 * angle), rest = (angle - quarters / 2) * 3.14159265358979323846;
  const double s = std::sin(rest), c = std::cos(rest);
  switch (static_cast<long long>(quarters) & 3) {
    case 0: *sine = s, *cosine = c; break;
    case 1: *sine = c, *cosine = -s; break;
    case 2: *sine = -s, *cosine = -c; break;
    default: *sine = -c, *cosine = s;
  }
}

template <class T, class U>
T atomicAdd(T* at, U value) {
  return emulation::exchanged_in_memory(at, [=](T old) { return static_cast<T>(old + static_cast<T>(value)); });
}
template <class T, class U>
T atomicXor(T* at, U value) {
  return emulation::exchanged_in_memory(at, [=](T old) { return static_cast<T>(old ^ static_cast<T>(value)); });
}
template <class T, class U>
T atomicMin(T* at, U value) {
  return emulation::exchanged_in_memory(
      at, [=](T old) { return static_cast<T>(value) < old ? static_cast<T>(value) : old; });
}
template <class T, class U>
T atomicMax(T* at, U value) {
  return emulation::exchanged_in_memory(
      at, [=](T old) { return static_cast<T>(value) > old ? static_cast<T>(value) : old; });
}
