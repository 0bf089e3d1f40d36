#include "../common/block_loop.h"
#include "../common/cuda.h"
#include "../common/dispatch.h"
#include "rand_fill_math.h"

namespace medsynth {

template <class T>
__global__ void rand_fill_kernel(RandFillParams p) {
  constexpr int kPer = kPerBlock<T>;
  const int64_t first = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  for (int64_t plane = blockIdx.y; plane < p.batch * p.channels; plane += gridDim.y) {
    const RandomKey key = plane_key(p, plane);
    T* out = static_cast<T*>(p.out) + plane * p.grid.elements();
    for_each_block<kPer>(p.grid, first, block_count<kPer>(p.grid), static_cast<int64_t>(gridDim.x) * blockDim.x,
                         [&](uint64_t block, int64_t begin, int from, int to) {
                           T z[kPer];
                           const Philox4 words = philox_block(key, block);
                           if (p.kind == RandKind::normal) {
                             block_normals(words, z);
                           } else {
                             block_uniforms(words, z);
                             for (int i = 0; i < kPer; ++i) z[i] = scaled_uniform(p, z[i]);
                           }
                           for (int i = from; i < to; ++i) out[begin + i] = z[i];
                         });
  }
}

template <class L>
__global__ void rand_int_kernel(RandFillParams p) {
  const int64_t first = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  for (int64_t plane = blockIdx.y; plane < p.batch * p.channels; plane += gridDim.y) {
    const RandomKey key = plane_key(p, plane);
    L* out = static_cast<L*>(p.out) + plane * p.grid.elements();
    for_each_block<4>(p.grid, first, block_count<4>(p.grid), static_cast<int64_t>(gridDim.x) * blockDim.x,
                      [&](uint64_t block, int64_t begin, int from, int to) {
                        const Philox4 words = philox_block(key, block);
                        for (int i = from; i < to; ++i) out[begin + i] = scaled_integer<L>(p, words.r[i]);
                      });
  }
}

void rand_fill_cuda(const RandFillParams& p, void* stream) {
  const int64_t planes = p.batch * p.channels;
  const dim3 grid(blocks_for(block_count<2>(p.grid), 256), static_cast<unsigned>(planes < 65535 ? planes : 65535));
  const auto s = static_cast<cudaStream_t>(stream);
  if (p.kind == RandKind::integer) {
    dispatch_label(p.dtype, [&](auto label) { MEDSYNTH_LAUNCH(rand_int_kernel<decltype(label)>, grid, 256, s, p); });
  } else {
    dispatch_float(p.dtype, [&](auto value) { MEDSYNTH_LAUNCH(rand_fill_kernel<decltype(value)>, grid, 256, s, p); });
  }
  check_launch("rand_fill");
}

}  // namespace medsynth
