#include "../common/cuda.h"
#include "../common/dispatch.h"
#include "render_heatmaps_math.h"

namespace medsynth {

namespace {

constexpr int kThreads = 256;
constexpr int kSumThreads = 128;

template <class T>
struct alignas(4 * sizeof(T)) Four {
  T v[4];
};

}  // namespace

// Each thread writes Width neighbouring voxels.
template <class T, int Width>
__global__ void __launch_bounds__(kThreads) render_heatmaps_kernel(RenderHeatmapsParams p) {
  const int64_t groups = p.volume() / Width;
  for (int64_t map = blockIdx.y; map < p.maps; map += gridDim.y) {
    int64_t begin, end;
    render_slots(p, map, begin, end);
    T* out = static_cast<T*>(p.out) + map * p.volume();
    MEDSYNTH_GRID_STRIDE(group, groups) {
      const int64_t v = group * Width, row = v / p.n[2];
      const int64_t start[3] = {row / p.n[1], row % p.n[1], v - row * p.n[2]};
      T result[Width] = {};
      for (int64_t slot = begin; slot < end; ++slot) {
        const RenderPoint<T> q = render_point<T>(p, render_index(p, slot));
        int64_t r[3] = {start[0], start[1], start[2]};
        for (int k = 0; k < Width; ++k) {
          if (q.covers(r)) {
            const T value = q.value(r);
            result[k] = p.sum ? result[k] + value : value > result[k] ? value : result[k];
          }
          if (++r[2] == p.n[2]) {
            r[2] = 0;
            if (++r[1] == p.n[1]) {
              r[1] = 0;
              ++r[0];
            }
          }
        }
      }
      if constexpr (Width == 4) {
        Four<T> four;
        for (int k = 0; k < 4; ++k) four.v[k] = result[k];
        *reinterpret_cast<Four<T>*>(out + v) = four;
      } else {
        out[v] = result[0];
      }
    }
  }
}

// One block a point; the partial sums of its threads are added in a fixed order.
template <class T>
__global__ void __launch_bounds__(kSumThreads) render_heatmaps_backward_kernel(RenderHeatmapsParams p) {
  __shared__ double shared[7][kSumThreads];
  for (int64_t slot = blockIdx.x; slot < p.count; slot += gridDim.x) {
    const int64_t i = render_index(p, slot), map = render_map_of(p, slot);
    const RenderPoint<T> q = render_point<T>(p, i);
    if (map < 0 || q.nowhere()) continue;  // the same for all threads
    RenderSums sums;
    int64_t begin, end;
    render_slots(p, map, begin, end);
    const bool alone = p.sum || end - begin == 1;
    const T* grad = static_cast<const T*>(p.grad) + map * p.volume();
    const int64_t height = q.last[1] - q.first[1], width = q.last[2] - q.first[2];
    const int64_t box = (q.last[0] - q.first[0]) * height * width;
    for (int64_t k = threadIdx.x; k < box; k += kSumThreads) {
      const int64_t r[3] = {q.first[0] + k / width / height, q.first[1] + k / width % height, q.first[2] + k % width};
      const bool counts = alone || render_wins(slot, begin, end, q.value(r), r, [&](int64_t other) {
                            return render_point<T>(p, render_index(p, other));
                          });
      if (counts) sums.add(q, r, grad[(r[0] * p.n[1] + r[1]) * p.n[2] + r[2]]);
    }
    const double mine[7] = {sums.amplitude, sums.first[0],  sums.first[1], sums.first[2],
                            sums.second[0], sums.second[1], sums.second[2]};
    for (int k = 0; k < 7; ++k) shared[k][threadIdx.x] = mine[k];
    for (int half = kSumThreads / 2; half > 0; half >>= 1) {
      __syncthreads();
      if (threadIdx.x < half) {
        for (int k = 0; k < 7; ++k) shared[k][threadIdx.x] += shared[k][threadIdx.x + half];
      }
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      sums.amplitude = shared[0][0];
      for (int d = 0; d < 3; ++d) {
        sums.first[d] = shared[1 + d][0];
        sums.second[d] = shared[4 + d][0];
      }
      sums.store(p, q, i);
    }
    __syncthreads();
  }
}

void render_heatmaps_cuda(const RenderHeatmapsParams& p, void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  const unsigned maps = static_cast<unsigned>(p.maps < 65535 ? p.maps : 65535);
  const bool fours = p.volume() % 4 == 0 && reinterpret_cast<uintptr_t>(p.out) % 32 == 0;
  const unsigned blocks = blocks_for(p.volume() / (fours ? 4 : 1), kThreads);
  dispatch_float(p.dtype, [&](auto tag) {
    using T = decltype(tag);
    const dim3 grid(blocks, maps);
    if (fours) {
      render_heatmaps_kernel<T, 4><<<grid, kThreads, 0, s>>>(p);
    } else {
      render_heatmaps_kernel<T, 1><<<grid, kThreads, 0, s>>>(p);
    }
  });
  check_launch("render_heatmaps");
}

void render_heatmaps_backward_cuda(const RenderHeatmapsParams& p, void* stream) {
  const unsigned blocks = static_cast<unsigned>(p.count < 65535 ? p.count : 65535);
  dispatch_float(p.dtype, [&](auto tag) {
    render_heatmaps_backward_kernel<decltype(tag)><<<blocks, kSumThreads, 0, static_cast<cudaStream_t>(stream)>>>(p);
  });
  check_launch("render_heatmaps_backward");
}

}  // namespace medsynth
