#include "../common/cuda.h"
#include "../common/dispatch.h"
#include "projection_math.h"

namespace medsynth {
namespace {

constexpr int kThreads = 256;
constexpr int kAtOnce = 4;  // volumes or sets of projections that share a ray
constexpr int kViews = 16;  // views that a block keeps in shared memory

// One thread per ray: the crossings are found once and read from up to kAtOnce volumes.
template <bool Siddon, class T>
__global__ void __launch_bounds__(kThreads) forward_kernel(ProjectionParams p, int64_t n0, int count) {
  const int64_t pixels = p.rows * p.cols, rays = p.views * pixels;
  MEDSYNTH_GRID_STRIDE(i, rays) {
    const int64_t view = i / pixels, pixel = i - view * pixels;
    const ViewFrame frame = load_view(p, view);
    const Ray ray = make_ray(p, frame, pixel / p.cols, pixel % p.cols);
    const int axis = main_axis(p, ray.w), a = first_across(axis), b = second_across(axis);
    const Crossings<T> c = make_crossings<T>(p, ray, axis);
    const int64_t stride_k = p.stride(axis), stride_a = p.stride(a), stride_b = p.stride(b), volume = p.volume();
    T sums[kAtOnce] = {};
    for (int64_t k = c.first; k < c.last; ++k) {
      const Stencil<T> s = stencil_at<Siddon>(p, c, axis, k);
      const bool a0 = s.a0 >= 0 && s.a0 < p.size[a], a1 = s.a1 >= 0 && s.a1 < p.size[a];
      const bool b0 = s.b0 >= 0 && s.b0 < p.size[b], b1 = s.b1 >= 0 && s.b1 < p.size[b];
      const T* slice = static_cast<const T*>(p.in) + n0 * volume + k * stride_k;
      const int64_t at00 = s.a0 * stride_a + s.b0 * stride_b, at10 = s.a1 * stride_a + s.b0 * stride_b;
      const int64_t at01 = s.a0 * stride_a + s.b1 * stride_b, at11 = s.a1 * stride_a + s.b1 * stride_b;
      for (int n = 0; n < kAtOnce; ++n) {
        if (n >= count) break;
        const T* from = slice + n * volume;
        T value = T(0);
        if (a0 && b0) value = fma_of(s.w00, from[at00], value);
        if (a1 && b0) value = fma_of(s.w10, from[at10], value);
        if (a0 && b1) value = fma_of(s.w01, from[at01], value);
        if (a1 && b1) value = fma_of(s.w11, from[at11], value);
        sums[n] += value;
      }
    }
    for (int n = 0; n < kAtOnce; ++n) {
      if (n < count) static_cast<T*>(p.out)[(n0 + n) * rays + i] = c.first < c.last ? c.length * sums[n] : T(0);
    }
  }
}

// One thread per voxel: it looks through the pixels of every view whose rays can touch it, in order.
template <bool Siddon, class T>
__global__ void __launch_bounds__(kThreads) adjoint_kernel(ProjectionParams p, int64_t n0, int count) {
  __shared__ ViewFrame frames[kViews];
  __shared__ ViewInverse inverses[kViews];
  const int64_t volume = p.volume(), pixels = p.rows * p.cols, rays = p.views * pixels;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  // Every thread of the block goes through the same steps, so that all reach the barriers.
  for (int64_t first = blockIdx.x * static_cast<int64_t>(kThreads); first < volume; first += step) {
    const int64_t i = first + threadIdx.x;
    const int64_t voxel[3] = {i % p.size[0], i / p.size[0] % p.size[1], i / (p.size[0] * p.size[1])};
    T sums[kAtOnce] = {};
    for (int64_t v0 = 0; v0 < p.views; v0 += kViews) {
      const int views = static_cast<int>(p.views - v0 < kViews ? p.views - v0 : kViews);
      __syncthreads();
      if (threadIdx.x < views) {
        frames[threadIdx.x] = load_view(p, v0 + threadIdx.x);
        inverses[threadIdx.x] = invert_view(p, frames[threadIdx.x]);
      }
      __syncthreads();
      if (i >= volume) continue;
      for (int v = 0; v < views; ++v) {
        const T* proj = static_cast<const T*>(p.in) + n0 * rays + (v0 + v) * pixels;
        gather_view<Siddon>(p, frames[v], inverses[v], voxel, proj, rays, count, sums);
      }
    }
    if (i >= volume) continue;
    for (int n = 0; n < kAtOnce; ++n) {
      if (n < count) static_cast<T*>(p.out)[(n0 + n) * volume + i] = sums[n];
    }
  }
}

// Calls launch(n0, count) for the batch, kAtOnce at a time.
template <class F>
void for_each_set(const ProjectionParams& p, F launch) {
  for (int64_t n0 = 0; n0 < p.batch; n0 += kAtOnce) {
    launch(n0, static_cast<int>(p.batch - n0 < kAtOnce ? p.batch - n0 : kAtOnce));
  }
}

}  // namespace

void ct_forward_cuda(const ProjectionParams& p, void* stream) {
  const unsigned blocks = blocks_for(p.views * p.rows * p.cols, kThreads);
  const auto s = static_cast<cudaStream_t>(stream);
  dispatch_float(p.dtype, [&](auto tag) {
    using T = decltype(tag);
    for_each_set(p, [&](int64_t n0, int count) {
      if (p.siddon) {
        MEDSYNTH_LAUNCH((forward_kernel<true, T>), blocks, kThreads, s, p, n0, count);
      } else {
        MEDSYNTH_LAUNCH((forward_kernel<false, T>), blocks, kThreads, s, p, n0, count);
      }
    });
  });
  check_launch("ct_forward");
}

void ct_adjoint_cuda(const ProjectionParams& p, void* stream) {
  const unsigned blocks = blocks_for(p.volume(), kThreads);
  const auto s = static_cast<cudaStream_t>(stream);
  dispatch_float(p.dtype, [&](auto tag) {
    using T = decltype(tag);
    for_each_set(p, [&](int64_t n0, int count) {
      if (p.siddon) {
        MEDSYNTH_LAUNCH((adjoint_kernel<true, T>), blocks, kThreads, s, p, n0, count);
      } else {
        MEDSYNTH_LAUNCH((adjoint_kernel<false, T>), blocks, kThreads, s, p, n0, count);
      }
    });
  });
  check_launch("ct_adjoint");
}

}  // namespace medsynth
