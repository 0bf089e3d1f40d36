#include "../common/cuda.h"
#include "../common/dispatch.h"
#include "heatmap_moments_math.h"

namespace medsynth {

namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

unsigned at_most_blocks(int64_t n) { return static_cast<unsigned>(n < 65535 ? n : 65535); }

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

// Voxels [first, last) of a box, counted along it.
struct BoxWalk {
  int64_t low[3], size[3];

  __device__ int64_t count() const { return size[0] * size[1] * size[2]; }
  __device__ void at(int64_t k, int64_t (&r)[3]) const {
    const int64_t row = k / size[2];
    r[2] = low[2] + k - row * size[2];
    r[1] = low[1] + row % size[1];
    r[0] = low[0] + row / size[1];
  }
};

// The sums of one block's share about its largest voxel.
template <class T, bool Third>
__device__ void sum_share(const HeatmapMomentsParams& p, const T* map, const BoxWalk& box, int64_t first, int64_t last,
                          T value, int64_t index, bool number, MomentSums& out) {
  __shared__ double shared[kWarps];
  const bool softmax = p.weights == MomentWeights::softmax;
  const T beta = static_cast<T>(p.beta), threshold = static_cast<T>(p.threshold);
  MomentSums s;
  clear(s);
  if (index >= 0) {
    int64_t reference[3];
    voxel_of(p, index, reference);
    for (int64_t k = first + threadIdx.x; k < last; k += kThreads) {
      int64_t r[3];
      box.at(k, r);
      const T h = map[(r[0] * p.n[1] + r[1]) * p.n[2] + r[2]];
      const double w = static_cast<double>(softmax ? exp_of((h - value) * beta) : linear_weight(h, threshold));
      const double x = static_cast<double>(r[2] - reference[2]);
      const double row[4] = {w, w * x, w * x * x, Third ? w * x * x * x : 0.0};
      add_row(s, static_cast<double>(r[0] - reference[0]), static_cast<double>(r[1] - reference[1]), row, Third);
    }
  }
  s.s0 = sum_of_block(s.s0, shared);
  for (double& v : s.s1) v = sum_of_block(v, shared);
  for (double& v : s.s2) v = sum_of_block(v, shared);
  if constexpr (Third) {
    for (double& v : s.s3) v = sum_of_block(v, shared);
  }
  s.most = number && index >= 0 ? static_cast<double>(value) : static_cast<double>(NAN);
  s.reference = index;
  if (threadIdx.x == 0) out = s;
}

template <class T>
__device__ void find_largest(const T* map, const BoxWalk& whole, int64_t first, int64_t last, T& value, int64_t& index,
                             bool& number) {
  value = static_cast<T>(-INFINITY);
  index = -1;
  number = true;
#pragma unroll 8
  for (int64_t i = first + threadIdx.x; i < last; i += kThreads) {
    const T v = map[i];
    number = number && v == v;
    if (v > value || (v == value && index < 0)) {
      value = v;
      index = i;
    }
  }
  largest_of_block(value, index, number);
}

// Without a window: one block a piece.
template <class T, bool Third>
__global__ void __launch_bounds__(kThreads) moment_pieces_kernel(HeatmapMomentsParams p) {
  const int64_t volume = p.volume(), length = (volume + p.pieces - 1) / p.pieces;
  const BoxWalk whole{{0, 0, 0}, {p.n[0], p.n[1], p.n[2]}};
  for (int64_t item = blockIdx.x; item < p.count * p.pieces; item += gridDim.x) {
    const T* map = static_cast<const T*>(p.maps) + item / p.pieces * volume;
    const int64_t first = item % p.pieces * length, last = first + length < volume ? first + length : volume;
    T value;
    int64_t index;
    bool number;
    find_largest(map, whole, first, last, value, index, number);
    sum_share<T, Third>(p, map, whole, first, last, value, index, number, static_cast<MomentSums*>(p.partial)[item]);
  }
}

// With a window: one block a map.
template <class T, bool Third>
__global__ void __launch_bounds__(kThreads) moment_window_kernel(HeatmapMomentsParams p) {
  const BoxWalk whole{{0, 0, 0}, {p.n[0], p.n[1], p.n[2]}};
  for (int64_t item = blockIdx.x; item < p.count; item += gridDim.x) {
    const T* map = static_cast<const T*>(p.maps) + item * p.volume();
    T value;
    int64_t index;
    bool any_number;
    find_largest(map, whole, 0, p.volume(), value, index, any_number);
    int64_t r[3] = {0, 0, 0}, low[3], high[3];
    if (index >= 0) voxel_of(p, index, r);
    moment_box(p, r, low, high);
    const BoxWalk box{{low[0], low[1], low[2]}, {high[0] - low[0], high[1] - low[1], high[2] - low[2]}};
    bool number = true;  // of the voxels that count
    for (int64_t k = threadIdx.x; k < box.count(); k += kThreads) {
      int64_t q[3];
      box.at(k, q);
      const T v = map[(q[0] * p.n[1] + q[1]) * p.n[2] + q[2]];
      number = number && v == v;
    }
    number = __syncthreads_and(number) != 0;
    sum_share<T, Third>(p, map, box, 0, box.count(), value, index, number, static_cast<MomentSums*>(p.partial)[item]);
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
    if (p.window > 0) {
      moment_window_kernel<T, kThird><<<at_most_blocks(p.count), kThreads, 0, s>>>(p);
    } else {
      moment_pieces_kernel<T, kThird><<<blocks_for(p.count * p.pieces, 1), kThreads, 0, s>>>(p);
    }
  };
  dispatch_float(
      p.dtype, [&](auto tag) { p.third != nullptr ? launch(tag, std::true_type{}) : launch(tag, std::false_type{}); });
  check_launch("heatmap_moments");
  moment_finish_kernel<<<at_most_blocks((p.count + 31) / 32), 32, 0, s>>>(p);
  check_launch("heatmap_moments");
}

void heatmap_moments_backward_cuda(const HeatmapMomentsParams& p, void* stream) {
  dispatch_float(p.dtype, [&](auto tag) {
    moment_gradient_kernel<decltype(tag)>
        <<<blocks_for(p.count * p.n[0] * p.n[1], kWarps), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(p);
  });
  check_launch("heatmap_moments_backward");
}

}  // namespace medsynth
