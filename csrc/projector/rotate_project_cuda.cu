#include "../common/cuda.h"
#include "../common/dispatch.h"
#include "rotate_project_math.h"

namespace medsynth {
namespace {

constexpr int kThreads = 256;
constexpr int kViews = 64;  // directions that a block keeps in shared memory

__device__ double2 direction(int64_t view, int64_t views) {
  double sine, cosine;
  sincospi(static_cast<double>(view) / static_cast<double>(views), &sine, &cosine);
  return make_double2(cosine, sine);
}

// One thread per ray; neighbouring threads have neighbouring rays of a view.
template <class T>
__global__ void __launch_bounds__(kThreads) project_kernel(RotateParams p) {
  const int64_t center = p.center(), rays = p.batch * p.views * p.size;
  MEDSYNTH_GRID_STRIDE(i, rays) {
    const int64_t line = i / p.size, t = i - line * p.size - center;
    const double2 d = direction(line % p.views, p.views);
    const T* image = static_cast<const T*>(p.in) + line / p.views * p.size * p.size;
    const T x0 = static_cast<T>(static_cast<double>(t) * d.x), y0 = static_cast<T>(-static_cast<double>(t) * d.y);
    const T dx = static_cast<T>(d.y), dy = static_cast<T>(d.x);
    T sum = T(0);
    for (int64_t r = -center; r < p.size - center; ++r) {
      const T step = static_cast<T>(r);
      sum += sample_centred(image, p.size, center, fma_of(step, dx, x0), fma_of(step, dy, y0));
    }
    static_cast<T*>(p.out)[i] = sum;
  }
}

// One thread per pixel.
template <class T>
__global__ void __launch_bounds__(kThreads) adjoint_kernel(RotateParams p) {
  __shared__ double2 directions[kViews];
  const int64_t center = p.center(), pixels = p.size * p.size, total = p.batch * pixels;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  // Every thread of the block goes through the same steps, so that all reach the barriers.
  for (int64_t first = blockIdx.x * static_cast<int64_t>(kThreads); first < total; first += step) {
    const int64_t i = first + threadIdx.x, pixel = i % pixels;
    const double x = static_cast<double>(pixel % p.size - center), y = static_cast<double>(pixel / p.size - center);
    T sum = T(0);
    for (int64_t v0 = 0; v0 < p.views; v0 += kViews) {
      const int views = static_cast<int>(p.views - v0 < kViews ? p.views - v0 : kViews);
      __syncthreads();
      if (threadIdx.x < views) directions[threadIdx.x] = direction(v0 + threadIdx.x, p.views);
      __syncthreads();
      if (i >= total) continue;
      const T* proj = static_cast<const T*>(p.in) + (i / pixels * p.views + v0) * p.size;
      for (int v = 0; v < views; ++v) {
        sum += gather_turned(proj + v * p.size, p.size, center, x, y, directions[v].x, directions[v].y);
      }
    }
    if (i < total) static_cast<T*>(p.out)[i] = sum;
  }
}

}  // namespace

void rotate_project_cuda(const RotateParams& p, void* stream) {
  const unsigned blocks = blocks_for(p.batch * p.views * p.size, kThreads);
  dispatch_float(p.dtype, [&](auto tag) {
    MEDSYNTH_LAUNCH(project_kernel<decltype(tag)>, blocks, kThreads, static_cast<cudaStream_t>(stream), p);
  });
  check_launch("rotate_project");
}

void rotate_project_adjoint_cuda(const RotateParams& p, void* stream) {
  const unsigned blocks = blocks_for(p.batch * p.size * p.size, kThreads);
  dispatch_float(p.dtype, [&](auto tag) {
    MEDSYNTH_LAUNCH(adjoint_kernel<decltype(tag)>, blocks, kThreads, static_cast<cudaStream_t>(stream), p);
  });
  check_launch("rotate_project_adjoint");
}

}  // namespace medsynth
