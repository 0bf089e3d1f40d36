// One kernel per axis. Every block makes the weights of its sample from sigma on the device, so the host never waits.
#include "../common/cuda.h"
#include "../common/dispatch.h"
#include "gaussian_blur_math.h"

namespace medsynth {

namespace {
constexpr int kThreads = 256;
constexpr int64_t kSharedTaps = 1024;
}  // namespace

template <class T>
__global__ void __launch_bounds__(kThreads)
    blur_axis_kernel(GaussianBlurParams p, int axis, int64_t stride, const T* in, T* out) {
  __shared__ T taps[kSharedTaps];
  __shared__ double part[kThreads];
  const int64_t volume = p.volume(), n = p.n[axis];
  for (int64_t plane = blockIdx.y; plane < p.batch * p.channels; plane += gridDim.y) {
    const double sigma = blur_sigma(p, plane / p.channels, axis);
    const int64_t r = blur_radius(sigma, p.truncate);
    double sum = 0;
    for (int64_t k = threadIdx.x; k <= r && r > 0; k += kThreads) sum += blur_weight(k, sigma) * (k == 0 ? 1 : 2);
    __syncthreads();  // the last plane's weights are no longer read
    part[threadIdx.x] = sum;
    for (int half = kThreads / 2; half > 0; half >>= 1) {
      __syncthreads();
      if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
    }
    __syncthreads();
    const double total = part[0];
    for (int64_t k = threadIdx.x; k <= r && k < kSharedTaps && r > 0; k += kThreads) {
      taps[k] = static_cast<T>(blur_weight(k, sigma) / total);
    }
    __syncthreads();
    const auto weight = [&](int64_t k) {
      return k < kSharedTaps ? taps[k] : static_cast<T>(blur_weight(k, sigma) / total);
    };
    const T* from = in + plane * volume;
    T* to = out + plane * volume;
    MEDSYNTH_GRID_STRIDE(x, volume) {
      if (r == 0) {
        to[x] = from[x];
        continue;
      }
      const int64_t i = x / stride % n;
      const T* line = from + x - i * stride;
      to[x] = p.transposed ? blur_gather_transposed(line, stride, n, i, r, p.border, weight)
                           : blur_gather(line, stride, n, i, r, p.border, weight);
    }
  }
}

void gaussian_blur_cuda(const GaussianBlurParams& p, void* stream) {
  const int64_t planes = p.batch * p.channels;
  const unsigned blocks = blocks_for(p.volume(), kThreads);
  const dim3 grid(blocks < 4096 ? blocks : 4096, static_cast<unsigned>(planes < 65535 ? planes : 65535));
  dispatch_float(p.dtype, [&](auto value) {
    using T = decltype(value);
    const void* from = p.x;
    const int first = 3 - static_cast<int>(p.axes);
    for (int axis = first; axis < 3; ++axis) {
      void* to = axis == 2 ? p.out : p.scratch[axis - first];
      const int64_t stride = axis == 2 ? 1 : axis == 1 ? p.n[2] : p.n[1] * p.n[2];
      MEDSYNTH_LAUNCH(blur_axis_kernel<T>, grid, kThreads, static_cast<cudaStream_t>(stream), p, axis, stride,
                      static_cast<const T*>(from), static_cast<T*>(to));
      check_launch("gaussian_blur");
      from = to;
    }
  });
}

}  // namespace medsynth
