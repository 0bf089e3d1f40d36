#include "../common/cuda.h"
#include "../common/dispatch.h"
#include "../common/fixed_point.cuh"
#include "backprojection_math.h"

namespace medsynth {
namespace {

constexpr int kThreads = 256;
constexpr int kViews = 32;  // views that a block keeps in shared memory

struct ViewTable {
  double matrix[kViews][12];
  double scale[kViews];
};

__device__ void load_views(const BackprojectionParams& p, int64_t v0, int views, ViewTable& table) {
  for (int i = threadIdx.x; i < 12 * views; i += kThreads) table.matrix[i / 12][i % 12] = p.matrices[12 * v0 + i];
  if (threadIdx.x < views) table.scale[threadIdx.x] = p.scale[v0 + threadIdx.x];
}

// One thread per voxel, all views in order; blockIdx.y runs over the batch.
template <class T>
__global__ void __launch_bounds__(kThreads) backproject_kernel(BackprojectionParams p) {
  __shared__ ViewTable table;
  const int64_t volume = p.volume(), pixels = p.pixels(), step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t n = blockIdx.y; n < p.batch; n += gridDim.y) {
    // Every thread of the block goes through the same steps, so that all reach the barriers.
    for (int64_t first = blockIdx.x * static_cast<int64_t>(kThreads); first < volume; first += step) {
      const int64_t i = first + threadIdx.x;
      const double x = static_cast<double>(i % p.size[0]), y = static_cast<double>(i / p.size[0] % p.size[1]);
      const double z = static_cast<double>(i / (p.size[0] * p.size[1]));
      T sum = T(0);
      for (int64_t v0 = 0; v0 < p.views; v0 += kViews) {
        const int views = static_cast<int>(p.views - v0 < kViews ? p.views - v0 : kViews);
        __syncthreads();
        load_views(p, v0, views, table);
        __syncthreads();
        if (i >= volume) continue;
        for (int v = 0; v < views; ++v) {
          const T* proj = static_cast<const T*>(p.in) + (n * p.views + v0 + v) * pixels;
          const Sighting<T> s = sighting<T>(p, table.matrix[v], table.scale[v], x, y, z);
          if (s.weight == T(0)) continue;
          T value = T(0);
          for_each_pixel(p, s, [&](int64_t pixel, T share) { value = fma_of(share, proj[pixel], value); });
          sum = fma_of(s.weight, value, sum);
        }
      }
      if (i < volume) static_cast<T*>(p.out)[n * volume + i] = sum;
    }
  }
}

// Calls f(set of projections, sighting, voxel value) for all voxels, views and volumes; one thread per voxel and view.
template <class T, class F>
__device__ void for_each_sighting(const BackprojectionParams& p, F f) {
  const int64_t volume = p.volume();
  for (int64_t set = blockIdx.y; set < p.batch * p.views; set += gridDim.y) {
    const int64_t view = set % p.views;
    const T* from = static_cast<const T*>(p.in) + set / p.views * volume;
    MEDSYNTH_GRID_STRIDE(i, volume) {
      const double x = static_cast<double>(i % p.size[0]), y = static_cast<double>(i / p.size[0] % p.size[1]);
      const double z = static_cast<double>(i / (p.size[0] * p.size[1]));
      f(set, sighting<T>(p, p.matrices + 12 * view, p.scale[view], x, y, z), from[i]);
    }
  }
}

// Where each sample's largest |weight * value| stands, behind the sums: as the bits of a double.
__device__ int64_t* largest_of(const BackprojectionParams& p) { return p.sums + p.batch * p.views * p.pixels(); }

template <class T>
__global__ void largest_kernel(BackprojectionParams p) {
  for_each_sighting<T>(p, [&](int64_t set, const Sighting<T>& s, T value) {
    if (s.weight == T(0)) return;
    const unsigned long long bits = size_bits(static_cast<double>(s.weight) * static_cast<double>(value));
    auto* largest = reinterpret_cast<unsigned long long*>(largest_of(p) + set / p.views);
    if (bits > *static_cast<volatile unsigned long long*>(largest)) atomicMax(largest, bits);
  });
}

template <class T>
__global__ void spread_kernel(BackprojectionParams p) {
  const double most_bits = ldexp(1.0, fixed_shift(p.volume()));
  for_each_sighting<T>(p, [&](int64_t set, const Sighting<T>& s, T value) {
    const double largest = __longlong_as_double(largest_of(p)[set / p.views]);
    if (s.weight == T(0) || !(largest > 0.0) || !isfinite(largest)) return;
    auto* to = reinterpret_cast<unsigned long long*>(p.sums) + set * p.pixels();
    const double g = static_cast<double>(s.weight) * static_cast<double>(value) * (most_bits / largest);
    for_each_pixel(p, s, [&](int64_t pixel, T share) {
      atomicAdd(to + pixel, static_cast<unsigned long long>(__double2ll_rn(g * static_cast<double>(share))));
    });
  });
}

template <class T>
__global__ void unscale_kernel(BackprojectionParams p) {
  const int64_t n = p.views * p.pixels();
  T* to = static_cast<T*>(p.out);
  MEDSYNTH_GRID_STRIDE(i, p.batch * n) {
    const double largest = __longlong_as_double(largest_of(p)[i / n]);
    const double scale = ldexp(largest, -fixed_shift(p.volume()));
    to[i] = isfinite(largest) ? static_cast<T>(static_cast<double>(p.sums[i]) * scale) : static_cast<T>(NAN);
  }
}

unsigned at_most(int64_t n, int64_t most) { return static_cast<unsigned>(n < most ? n : most); }

}  // namespace

void ct_backproject_cuda(const BackprojectionParams& p, void* stream) {
  const dim3 grid(blocks_for(p.volume(), kThreads), at_most(p.batch, 65535));
  dispatch_float(p.dtype, [&](auto tag) {
    MEDSYNTH_LAUNCH(backproject_kernel<decltype(tag)>, grid, kThreads, static_cast<cudaStream_t>(stream), p);
  });
  check_launch("ct_backproject");
}

void ct_backproject_transposed_cuda(const BackprojectionParams& p, void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  const dim3 grid(at_most(blocks_for(p.volume(), kThreads), 4096), at_most(p.batch * p.views, 65535));
  dispatch_float(p.dtype, [&](auto tag) {
    using T = decltype(tag);
    MEDSYNTH_LAUNCH(largest_kernel<T>, grid, kThreads, s, p);
    MEDSYNTH_LAUNCH(spread_kernel<T>, grid, kThreads, s, p);
    MEDSYNTH_LAUNCH(unscale_kernel<T>, blocks_for(p.batch * p.views * p.pixels(), kThreads), kThreads, s, p);
  });
  check_launch("ct_backproject_transposed");
}

}  // namespace medsynth
