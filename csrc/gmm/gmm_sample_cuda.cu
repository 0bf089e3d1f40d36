#include "../common/cuda.h"
#include "../common/dispatch.h"
#include "gmm_kernel.h"

namespace medsynth {

namespace {
constexpr int kThreads = 256;
constexpr unsigned kMaxBlocks = 8192;  // every block fills its table once per plane
unsigned limited(int64_t n, unsigned most) { return static_cast<unsigned>(n < most ? n : most); }
}  // namespace

template <class T, class L>
__global__ void __launch_bounds__(kThreads) gmm_sample_kernel(GmmSampleParams p, bool in_shared) {
  MEDSYNTH_DYNAMIC_SHARED(double, storage);
  constexpr int kPer = kPerBlock<T>;
  const int64_t first = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  for (int64_t plane = blockIdx.y; plane < p.batch * p.channels; plane += gridDim.y) {
    const DeviceTable<T> table{p, in_shared ? reinterpret_cast<Gaussian<T>*>(storage) : nullptr, plane / p.channels,
                               plane % p.channels};
    table.fill();
    T* out = static_cast<T*>(p.out) + plane * p.grid.elements();
    for_each_block<kPer>(p.grid, first, block_count<kPer>(p.grid), static_cast<int64_t>(gridDim.x) * blockDim.x,
                         [&](uint64_t block, int64_t begin, int from, int to) {
                           store_pack(out + begin, block_intensities<T, L>(p, table, block, begin, from, to), from, to);
                         });
  }
}

void gmm_sample_cuda(const GmmSampleParams& p, void* stream) {
  dispatch_float(p.dtype, [&](auto value) {
    using T = decltype(value);
    const dim3 grid(limited(blocks_for(block_count<kPerBlock<T>>(p.grid), kThreads), kMaxBlocks),
                    limited(p.batch * p.channels, 65535));
    const auto bytes = static_cast<size_t>(shared_table_bytes<T>(p.known()));
    dispatch_label(p.label_type, [&](auto label) {
      MEDSYNTH_LAUNCH_SHARED((gmm_sample_kernel<T, decltype(label)>), grid, kThreads, bytes,
                             static_cast<cudaStream_t>(stream), p, bytes != 0);
    });
  });
  check_launch("gmm_sample");
}

namespace {

__device__ __forceinline__ double warp_sum(double x) {
  for (int offset = 16; offset > 0; offset >>= 1) x += __shfl_xor_sync(0xFFFFFFFFu, x, offset);
  return x;
}

}  // namespace

// One warp sums one piece of one plane into its own table. Lanes hold one Philox block each; for every class among the
// 32 lanes in turn, the warp adds up what belongs to it and lane 0 adds that to the table: a fixed order, no atomics.
template <class T, class L>
__global__ void __launch_bounds__(128) gmm_sample_backward_kernel(GmmSampleBackwardParams q) {
  const GmmSampleParams& p = q.sample;
  constexpr int kPer = kPerBlock<T>;
  const int lane = threadIdx.x & 31;
  const int64_t piece = (blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x) >> 5;
  if (piece >= q.pieces) return;  // a whole warp leaves
  const int64_t blocks = block_count<kPer>(p.grid);
  const int64_t share = ((blocks + q.pieces - 1) / q.pieces + 31) / 32 * 32;
  const int64_t per_segment = (p.grid.length + 2 * kPer - 2) / kPer;
  for (int64_t plane = blockIdx.y; plane < p.batch * p.channels; plane += gridDim.y) {
    const int64_t b = plane / p.channels, c = plane % p.channels;
    double* table = q.partial + (plane * q.pieces + piece) * 2 * p.classes;
    for (int64_t i = lane; i < 2 * p.classes; i += 32) table[i] = 0;
    __syncwarp();
    const L* labels = static_cast<const L*>(p.labels) + b * p.grid.elements();
    const T* grad = static_cast<const T*>(q.grad) + plane * p.grid.elements();
    const RandomKey key = plane_key(p, b, c);
    for (int64_t base = piece * share; base < (piece + 1) * share && base < blocks; base += 32) {
      const int64_t i = base + lane;
      const int64_t segment = i / per_segment, v = p.grid.first(segment);
      const int64_t block = v / kPer + (i - segment * per_segment), start = block * kPer - v;
      T z[kPer];
      if (q.grad_stds != nullptr) block_normals(philox_block(key, static_cast<uint64_t>(block)), z);
      for (int e = 0; e < kPer; ++e) {
        const bool exists = i < blocks && start + e >= 0 && start + e < p.grid.length;
        const int64_t at = segment * p.grid.length + start + e;
        const int k = exists ? static_cast<int>(p.class_of(label_value(labels[at]))) : -1;
        const double g = k >= 0 ? static_cast<double>(grad[at]) : 0.0;
        const double gn = k >= 0 && q.grad_stds != nullptr ? g * static_cast<double>(z[e]) : 0.0;
        unsigned waiting = __ballot_sync(0xFFFFFFFFu, k >= 0);
        while (waiting != 0) {
          const int now = __shfl_sync(0xFFFFFFFFu, k, __ffs(static_cast<int>(waiting)) - 1);
          const bool mine = k == now;
          const double of_mean = warp_sum(mine ? g : 0.0), of_std = warp_sum(mine ? gn : 0.0);
          if (lane == 0) {
            table[2 * now] += of_mean;
            table[2 * now + 1] += of_std;
          }
          waiting &= ~__ballot_sync(0xFFFFFFFFu, mine);
        }
      }
    }
    __syncwarp();
  }
}

// One block adds the pieces of one (b, c, k).
template <class T>
__global__ void __launch_bounds__(128) gmm_add_pieces_kernel(GmmSampleBackwardParams q) {
  const GmmSampleParams& p = q.sample;
  __shared__ double sums[2][128];
  for (int64_t item = blockIdx.x; item < p.batch * p.channels * p.classes; item += gridDim.x) {
    const int64_t plane = item / p.classes, k = item % p.classes;
    const double* partial = q.partial + plane * q.pieces * 2 * p.classes + 2 * k;
    double of_mean = 0, of_std = 0;
    for (int64_t piece = threadIdx.x; piece < q.pieces; piece += 128) {
      of_mean += partial[piece * 2 * p.classes];
      of_std += partial[piece * 2 * p.classes + 1];
    }
    sums[0][threadIdx.x] = of_mean;
    sums[1][threadIdx.x] = of_std;
    for (int half = 64; half > 0; half >>= 1) {
      __syncthreads();
      if (threadIdx.x < half) {
        sums[0][threadIdx.x] += sums[0][threadIdx.x + half];
        sums[1][threadIdx.x] += sums[1][threadIdx.x + half];
      }
    }
    if (threadIdx.x == 0) {
      const int64_t at = (plane / p.channels * p.classes + k) * p.channels + plane % p.channels;
      if (q.grad_means != nullptr) static_cast<T*>(q.grad_means)[at] = static_cast<T>(sums[0][0]);
      if (q.grad_stds != nullptr) static_cast<T*>(q.grad_stds)[at] = static_cast<T>(sums[1][0]);
    }
    __syncthreads();
  }
}

void gmm_sample_backward_cuda(const GmmSampleBackwardParams& q, void* stream) {
  const GmmSampleParams& p = q.sample;
  const auto s = static_cast<cudaStream_t>(stream);
  const dim3 grid(static_cast<unsigned>((q.pieces + 3) / 4), limited(p.batch * p.channels, 65535));
  dispatch_float(p.dtype, [&](auto value) {
    using T = decltype(value);
    dispatch_label(p.label_type, [&](auto label) {
      MEDSYNTH_LAUNCH((gmm_sample_backward_kernel<T, decltype(label)>), grid, 128, s, q);
    });
    check_launch("gmm_sample_backward");
    MEDSYNTH_LAUNCH(gmm_add_pieces_kernel<T>, limited(p.batch * p.channels * p.classes, 65535), 128, s, q);
  });
  check_launch("gmm_sample_backward");
}

}  // namespace medsynth
