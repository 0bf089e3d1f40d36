#include "../common/dispatch.h"
#include "heatmap_moments_math.h"
#include "quads.cuh"

namespace medsynth {

namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

}  // namespace

// The largest voxel of a block's share, in all threads; index -1 when all are NaN. `number`: whether none is.
template <class T>
__device__ void largest_of_block(T& value, int64_t& index, bool& number) {
  __shared__ T values[kThreads];
  __shared__ int64_t indices[kThreads];
  number = __syncthreads_and(number) != 0;  // also: the last result has been read
  values[threadIdx.x] = value;
  indices[threadIdx.x] = index;
  for (int half = kThreads / 2; half > 0; half >>= 1) {
    __syncthreads();
    if (threadIdx.x < half) {
      const T v = values[threadIdx.x + half], mine = values[threadIdx.x];
      const int64_t i = indices[threadIdx.x + half], here = indices[threadIdx.x];
      if (i >= 0 && (here < 0 || v > mine || (v == mine && i < here))) {
        values[threadIdx.x] = v;
        indices[threadIdx.x] = i;
      }
    }
  }
  __syncthreads();
  value = values[0];
  index = indices[0];
}

// A sum over the block in a fixed order, for thread 0.
__device__ inline double sum_of_block(double v, double* shared) {
  for (int step = 16; step > 0; step >>= 1) v += __shfl_down_sync(0xFFFFFFFFu, v, step);
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = v;
  __syncthreads();
  double sum = 0;
  for (int w = 0; w < kWarps; ++w) sum += shared[w];
  return sum;
}

// The voxels of a box, counted along its rows.
struct Box {
  int64_t low[3], size[3];

  __device__ int64_t count() const { return size[0] * size[1] * size[2]; }
  // The place of voxel k in the map.
  __device__ __forceinline__ void at(int64_t k, int64_t (&r)[3]) const {
    place_of(k, size, r);
    for (int d = 0; d < 3; ++d) r[d] += low[d];
  }
};

// The sums of voxels [first, last) of a box about its largest voxel. Each thread takes Width neighbouring voxels of a
// row at a time: their sums are kept in the precision of the map, all others in float64.
template <class T, bool Third, int Width>
__device__ void sum_share(const HeatmapMomentsParams& p, const T* map, const Box& box, int64_t first, int64_t last,
                          T value, int64_t index, bool number, MomentSums& out) {
  __shared__ double shared[kWarps];
  const bool softmax = p.weights == MomentWeights::softmax;
  const T beta = static_cast<T>(p.beta), threshold = static_cast<T>(p.threshold);
  MomentSums s;
  clear(s);
  if (index >= 0) {
    int64_t reference[3];
    voxel_of(p, index, reference);
    for (int64_t k = first + threadIdx.x * Width; k < last; k += kThreads * Width) {
      int64_t r[3];
      box.at(k, r);
      const T* from = map + (r[0] * p.n[1] + r[1]) * p.n[2] + r[2];
      T near[4] = {T{0}, T{0}, T{0}, T{0}};  // about the first of the voxels
      for (int i = 0; i < Width; ++i) {
        const T h = from[i], x = static_cast<T>(i);
        const T w = softmax ? exp_of((h - value) * beta) : linear_weight(h, threshold);
        near[0] += w;
        near[1] += w * x;
        near[2] += w * x * x;
        near[3] += w * x * x * x;
      }
      const double n0 = near[0], n1 = near[1], n2 = near[2], n3 = near[3];
      const double x = static_cast<double>(r[2] - reference[2]);
      const double row[4] = {n0, n1 + x * n0, n2 + x * (2 * n1 + x * n0),
                             Third ? n3 + x * (3 * n2 + x * (3 * n1 + x * n0)) : 0.0};
      add_row(s, static_cast<double>(r[0] - reference[0]), static_cast<double>(r[1] - reference[1]), row, Third);
    }
  }
  s.s0 = sum_of_block(s.s0, shared);
  for (double& v : s.s1) v = sum_of_block(v, shared);
  for (double& v : s.s2) v = sum_of_block(v, shared);
  if constexpr (Third) {
    for (double& v : s.s3) v = sum_of_block(v, shared);
  }
  s.most = !number ? static_cast<double>(NAN) : index < 0 ? -INFINITY : static_cast<double>(value);
  s.reference = index;
  if (threadIdx.x == 0) out = s;
}

// The largest of voxels [first, last) of a map; index -1 when all are NaN or there are none.
template <class T, int Width>
__device__ void find_largest(const T* map, int64_t first, int64_t last, T& value, int64_t& index, bool& number) {
  value = static_cast<T>(-INFINITY);
  index = -1;
  number = true;
  const auto take = [&](T v, int64_t i) {
    number = number && v == v;
    if (v > value || (v == value && index < 0)) {
      value = v;
      index = i;
    }
  };
#pragma unroll 4
  for (int64_t i = first + threadIdx.x * Width; i < last; i += kThreads * Width) {
    if constexpr (Width == 4) {
      const Four<T> four = load_four(map + i);
      for (int k = 0; k < 4; ++k) take(four.v[k], i + k);
    } else {
      take(map[i], i);
    }
  }
  largest_of_block(value, index, number);
}

// Without a window: one block a piece.
template <class T, bool Third, int Width>
__global__ void __launch_bounds__(kThreads) moment_pieces_kernel(HeatmapMomentsParams p) {
  const int64_t volume = p.volume(), length = ((volume + p.pieces - 1) / p.pieces + Width - 1) / Width * Width;
  const Box whole{{0, 0, 0}, {p.n[0], p.n[1], p.n[2]}};
  for (int64_t item = blockIdx.x; item < p.count * p.pieces; item += gridDim.x) {
    const T* map = static_cast<const T*>(p.maps) + item / p.pieces * volume;
    const int64_t first = item % p.pieces * length, last = first + length < volume ? first + length : volume;
    T value;
    int64_t index;
    bool number;
    find_largest<T, Width>(map, first, last, value, index, number);
    sum_share<T, Third, Width>(p, map, whole, first, last, value, index, number,
                               static_cast<MomentSums*>(p.partial)[item]);
  }
}

// With a window: one block a map.
template <class T, bool Third>
__global__ void __launch_bounds__(kThreads) moment_window_kernel(HeatmapMomentsParams p) {
  for (int64_t item = blockIdx.x; item < p.count; item += gridDim.x) {
    const T* map = static_cast<const T*>(p.maps) + item * p.volume();
    T value;
    int64_t index;
    bool of_all;
    find_largest<T, 1>(map, 0, p.volume(), value, index, of_all);
    int64_t r[3] = {0, 0, 0}, low[3], high[3];
    if (index >= 0) voxel_of(p, index, r);
    moment_box(p, r, low, high);
    const Box box{{low[0], low[1], low[2]}, {high[0] - low[0], high[1] - low[1], high[2] - low[2]}};
    bool number = true;  // of the voxels that count
    for (int64_t k = threadIdx.x; k < box.count(); k += kThreads) {
      int64_t q[3];
      box.at(k, q);
      const T v = map[(q[0] * p.n[1] + q[1]) * p.n[2] + q[2]];
      number = number && v == v;
    }
    number = __syncthreads_and(number) != 0;
    sum_share<T, Third, 1>(p, map, box, 0, box.count(), value, index, number,
                           static_cast<MomentSums*>(p.partial)[item]);
  }
}

__global__ void moment_finish_kernel(HeatmapMomentsParams p) {
  MEDSYNTH_GRID_STRIDE(map, p.count) {
    const MomentSums* parts = static_cast<const MomentSums*>(p.partial) + map * p.pieces;
    finish_moments(p, map, p.pieces, [&](int64_t i) -> const MomentSums& { return parts[i]; });
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) moment_gradient_kernel(HeatmapMomentsParams p) {
  const int64_t rows = p.n[0] * p.n[1], width = p.n[2];
  const bool softmax = p.weights == MomentWeights::softmax;
  for (int64_t item = blockIdx.x * static_cast<int64_t>(kWarps) + threadIdx.x / 32; item < p.count * rows;
       item += static_cast<int64_t>(gridDim.x) * kWarps) {  // one warp a row
    const int64_t map = item / rows, z = item % rows / p.n[1], y = item % p.n[1];
    const double* state = p.state + map * kMomentState;
    const bool known = state_known(p, state);
    int64_t first = 0, last = width;
    if (p.window > 0 && known) {
      int64_t r[3], low[3], high[3];
      voxel_of(p, static_cast<int64_t>(state[2]), r);
      moment_box(p, r, low, high);
      const bool outside = z < low[0] || z >= high[0] || y < low[1] || y >= high[1];
      first = outside ? width : low[2];
      last = outside ? width : high[2];
    }
    const RowPolynomial<T> q = row_polynomial<T>(p, map, z, y);
    const double centre = p.mean[map * p.axes + p.axes - 1];
    const T most = static_cast<T>(state[0]), beta = static_cast<T>(p.beta), threshold = static_cast<T>(p.threshold);
    for (int64_t x = threadIdx.x % 32; x < width; x += 32) {
      T g = T{0};
      if (x >= first && x < last) {
        const T h = static_cast<const T*>(p.maps)[item * width + x];
        const T from = static_cast<T>(static_cast<double>(x) - centre);
        g = known ? moment_gradient(q, from, h, softmax, most, beta, threshold) : static_cast<T>(NAN);
      }
      static_cast<T*>(p.grad)[item * width + x] = g;
    }
  }
}

void heatmap_moments_cuda(const HeatmapMomentsParams& p, void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  const auto launch = [&](auto tag, auto third) {
    using T = decltype(tag);
    constexpr bool kThird = decltype(third)::value;
    const unsigned blocks = blocks_for(p.count * p.pieces, 1);
    if (p.window > 0) {
      MEDSYNTH_LAUNCH((moment_window_kernel<T, kThird>), at_most_blocks(p.count), kThreads, s, p);
    } else if (rows_of_fours<T>(p.maps, p.n[2])) {
      MEDSYNTH_LAUNCH((moment_pieces_kernel<T, kThird, 4>), blocks, kThreads, s, p);
    } else {
      MEDSYNTH_LAUNCH((moment_pieces_kernel<T, kThird, 1>), blocks, kThreads, s, p);
    }
  };
  dispatch_float(
      p.dtype, [&](auto tag) { p.third != nullptr ? launch(tag, std::true_type{}) : launch(tag, std::false_type{}); });
  check_launch("heatmap_moments");
  MEDSYNTH_LAUNCH(moment_finish_kernel, at_most_blocks((p.count + 31) / 32), 32, s, p);
  check_launch("heatmap_moments");
}

void heatmap_moments_backward_cuda(const HeatmapMomentsParams& p, void* stream) {
  dispatch_float(p.dtype, [&](auto tag) {
    MEDSYNTH_LAUNCH(moment_gradient_kernel<decltype(tag)>, blocks_for(p.count * p.n[0] * p.n[1], kWarps), kThreads,
                    static_cast<cudaStream_t>(stream), p);
  });
  check_launch("heatmap_moments_backward");
}

}  // namespace medsynth
