#include "../common/dispatch.h"
#include "quads.cuh"
#include "render_heatmaps_math.h"

namespace medsynth {

namespace {

constexpr int kThreads = 256;
constexpr int kSumThreads = 128;
constexpr int kShared = 32;  // points of a map that a block keeps at hand

}  // namespace

// The value of a map at r; point_at(slot) gives its points.
template <class T, class PointAt>
__device__ __forceinline__ T render_voxel(const int64_t (&r)[3], int64_t begin, int64_t end, bool sum,
                                          PointAt point_at) {
  T result = T{0};
  for (int64_t slot = begin; slot < end; ++slot) {
    const RenderPoint<T>& q = point_at(slot);
    if (!q.covers(r)) continue;
    const T value = q.value(r);
    result = sum ? result + value : value > result ? value : result;
  }
  return result;
}

// Each thread writes Width neighbouring voxels of a row at a time.
template <class T, int Width>
__global__ void __launch_bounds__(kThreads) render_heatmaps_kernel(RenderHeatmapsParams p) {
  __shared__ RenderPoint<T> points[kShared];
  const int64_t groups = p.volume() / Width;
  for (int64_t map = blockIdx.y; map < p.maps; map += gridDim.y) {
    int64_t begin, end;
    render_slots(p, map, begin, end);
    const bool few = end - begin <= kShared;
    __syncthreads();  // the last map's points are no longer read
    if (few && threadIdx.x < end - begin) {
      points[threadIdx.x] = render_point<T>(p, render_index(p, begin + threadIdx.x));
    }
    __syncthreads();
    T* out = static_cast<T*>(p.out) + map * p.volume();
    MEDSYNTH_GRID_STRIDE(group, groups) {
      int64_t r[3];
      place_of(group * Width, p.n, r);
      Four<T> four;
      for (int k = 0; k < Width; ++k, ++r[2]) {
        if (few) {
          four.v[k] = render_voxel<T>(r, begin, end, p.sum,
                                      [&](int64_t slot) -> const RenderPoint<T>& { return points[slot - begin]; });
        } else {
          four.v[k] = render_voxel<T>(r, begin, end, p.sum,
                                      [&](int64_t slot) { return render_point<T>(p, render_index(p, slot)); });
        }
      }
      if constexpr (Width == 4) {
        *reinterpret_cast<Four<T>*>(out + group * 4) = four;
      } else {
        out[group] = four.v[0];
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
  dispatch_float(p.dtype, [&](auto tag) {
    using T = decltype(tag);
    const bool fours = rows_of_fours<T>(p.out, p.n[2]);
    const dim3 grid(blocks_for(p.volume() / (fours ? 4 : 1), kThreads * 4), at_most_blocks(p.maps));
    if (fours) {
      MEDSYNTH_LAUNCH((render_heatmaps_kernel<T, 4>), grid, kThreads, s, p);
    } else {
      MEDSYNTH_LAUNCH((render_heatmaps_kernel<T, 1>), grid, kThreads, s, p);
    }
  });
  check_launch("render_heatmaps");
}

void render_heatmaps_backward_cuda(const RenderHeatmapsParams& p, void* stream) {
  dispatch_float(p.dtype, [&](auto tag) {
    MEDSYNTH_LAUNCH(render_heatmaps_backward_kernel<decltype(tag)>, at_most_blocks(p.count), kSumThreads,
                    static_cast<cudaStream_t>(stream), p);
  });
  check_launch("render_heatmaps_backward");
}

}  // namespace medsynth
