// What the CUDA kernels of gmm_sample and synth_image share: the table in shared memory and one Philox block of voxels.
#pragma once
#include "../common/block_loop.h"
#include "gmm_sample_math.h"

namespace medsynth {

constexpr int64_t kSharedLabels = 2048;  // larger tables are read from global memory

template <class T>
__host__ __device__ constexpr int64_t shared_table_bytes(int64_t known) {
  return known < kSharedLabels ? (known + 1) * static_cast<int64_t>(sizeof(Gaussian<T>)) : 0;
}

// Gaussians of one plane.
template <class T>
struct DeviceTable {
  const GmmSampleParams& p;
  Gaussian<T>* shared;  // known + 1 entries, or null
  int64_t b, c;

  // All threads of the block must call this.
  __device__ void fill() const {
    if (shared == nullptr) return;
    __syncthreads();
    for (int64_t label = threadIdx.x; label <= p.known(); label += blockDim.x) {
      shared[label] = gaussian_of<T>(p, b, c, static_cast<uint64_t>(label));
    }
    __syncthreads();
  }
  __device__ Gaussian<T> operator()(uint64_t label) const {
    if (shared == nullptr) return gaussian_of<T>(p, b, c, label);
    const auto known = static_cast<uint64_t>(p.known());
    return shared[label < known ? label : known];
  }
};

template <class L, int N>
struct alignas(sizeof(L) * N) Pack {
  L v[N];
};

template <class T, int N>
__device__ __forceinline__ bool aligned_for(const T* at) {
  return (reinterpret_cast<uintptr_t>(at) & (sizeof(T) * N - 1)) == 0;
}

// The N values at `at`, of which [from, to) exist.
template <class L, int N>
__device__ __forceinline__ Pack<L, N> load_pack(const L* at, int from, int to) {
  Pack<L, N> pack;
  if (from == 0 && to == N && sizeof(L) * N <= 16 && aligned_for<L, N>(at))
    return *reinterpret_cast<const Pack<L, N>*>(at);
  for (int i = 0; i < N; ++i) pack.v[i] = i >= from && i < to ? at[i] : L{0};
  return pack;
}

template <class T, int N>
__device__ __forceinline__ void store_pack(T* at, const Pack<T, N>& pack, int from, int to) {
  if (from == 0 && to == N && sizeof(T) * N <= 16 && aligned_for<T, N>(at)) {
    *reinterpret_cast<Pack<T, N>*>(at) = pack;
    return;
  }
  for (int i = 0; i < N; ++i) {
    if (i >= from && i < to) at[i] = pack.v[i];
  }
}

// Intensities of the voxels of one Philox block; begin counts inside the plane.
template <class T, class L>
__device__ __forceinline__ Pack<T, kPerBlock<T>> block_intensities(const GmmSampleParams& p,
                                                                   const DeviceTable<T>& table, uint64_t block,
                                                                   int64_t begin, int from, int to) {
  constexpr int kPer = kPerBlock<T>;
  T z[kPer];
  block_normals(philox_block(plane_key(p, table.b, table.c), block), z);
  const int64_t at = table.b * p.grid.elements() + begin;
  const Pack<L, kPer> labels = load_pack<L, kPer>(static_cast<const L*>(p.labels) + at, from, to);
  Pack<T, kPer> y;
  for (int i = 0; i < kPer; ++i) {
    const uint64_t label = label_value(labels.v[i]);
    y.v[i] = intensity(table(label), z[i]);
    if (p.bad != nullptr && table.c == 0 && i >= from && i < to && p.class_of(label) < 0) {
      atomicMin(reinterpret_cast<long long*>(p.bad), static_cast<long long>(at + i));
    }
  }
  return y;
}

}  // namespace medsynth
