#include "../common/cuda.h"
#include "../common/dispatch.h"
#include "gmm_kernel.h"
#include "synth_image_math.h"

namespace medsynth {

namespace {

constexpr int kThreads = 256;
using Word = unsigned long long;
unsigned limited(int64_t n, unsigned most) { return static_cast<unsigned>(n < most ? n : most); }

// Numbers as unsigned words of the same order, so that integer atomics find extremes in any order of arrival.
__device__ __forceinline__ Word ordered(double x) {
  const Word bits = static_cast<Word>(__double_as_longlong(x));
  return bits >> 63 != 0 ? ~bits : bits | (Word{1} << 63);
}
__device__ __forceinline__ double unordered(Word w) {
  return __longlong_as_double(static_cast<long long>(w >> 63 != 0 ? w & ~(Word{1} << 63) : ~w));
}

}  // namespace

__global__ void synth_start_kernel(Word* extremes, int64_t planes) {
  MEDSYNTH_GRID_STRIDE(i, planes) {
    extremes[2 * i] = ~Word{0};
    extremes[2 * i + 1] = 0;
  }
}

template <class T, class L>
__global__ void __launch_bounds__(kThreads) synth_first_kernel(SynthImageParams p, bool in_shared) {
  MEDSYNTH_DYNAMIC_SHARED(double, storage);
  constexpr int kPer = kPerBlock<T>;
  const GmmSampleParams& s = p.sample;
  auto* extremes = static_cast<Word*>(p.extremes);
  const int64_t nodes = p.m[0] * p.m[1] * p.m[2];
  const int64_t first = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  for (int64_t plane = blockIdx.y; plane < s.batch * s.channels; plane += gridDim.y) {
    const DeviceTable<T> table{s, in_shared ? reinterpret_cast<Gaussian<T>*>(storage) : nullptr, plane / s.channels,
                               plane % s.channels};
    table.fill();
    T* out = static_cast<T*>(s.out) + plane * s.grid.elements();
    const T* bias = p.bias == nullptr ? nullptr : static_cast<const T*>(p.bias) + plane * nodes;
    const T low = static_cast<T>(p.low), high = static_cast<T>(p.high);
    T least = static_cast<T>(INFINITY), most = -static_cast<T>(INFINITY);
    for_each_block<kPer>(
        s.grid, first, block_count<kPer>(s.grid), static_cast<int64_t>(gridDim.x) * blockDim.x,
        [&](uint64_t block, int64_t begin, int from, int to) {
          Pack<T, kPer> y = block_intensities<T, L>(s, table, block, begin, from, to);
          for (int i = 0; i < kPer; ++i) {
            if (i < from || i >= to) continue;
            T value = y.v[i];
            if (bias != nullptr) {
              const int64_t x = begin + i, row = x / p.n[2];
              value *= exp_of(bias_at(p, bias, bias_node<T>(p, 0, row / p.n[1]), bias_node<T>(p, 1, row % p.n[1]),
                                      bias_node<T>(p, 2, x - row * p.n[2])));
            }
            if (p.clip) {
              value = value < low ? low : value;
              value = value > high ? high : value;
            }
            y.v[i] = value;
            least = value < least ? value : least;
            most = value > most ? value : most;
          }
          store_pack(out + begin, y, from, to);
        });
    Word a = ordered(static_cast<double>(least)), z = ordered(static_cast<double>(most));
    for (int offset = 16; offset > 0; offset >>= 1) {
      const Word a2 = __shfl_xor_sync(0xFFFFFFFFu, a, offset), z2 = __shfl_xor_sync(0xFFFFFFFFu, z, offset);
      a = a2 < a ? a2 : a;
      z = z2 > z ? z2 : z;
    }
    if ((threadIdx.x & 31) == 0) {
      atomicMin(extremes + 2 * plane, a);
      atomicMax(extremes + 2 * plane + 1, z);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) synth_second_kernel(SynthImageParams p) {
  const GmmSampleParams& s = p.sample;
  const auto* extremes = static_cast<const Word*>(p.extremes);
  const int64_t elements = s.grid.elements();
  for (int64_t plane = blockIdx.y; plane < s.batch * s.channels; plane += gridDim.y) {
    const T low = static_cast<T>(unordered(extremes[2 * plane])),
            high = static_cast<T>(unordered(extremes[2 * plane + 1]));
    const T scale = T{1} / (high - low + static_cast<T>(p.eps));
    const T power = p.power != nullptr ? static_cast<const T*>(p.power)[plane] : T{1};
    T* out = static_cast<T*>(s.out) + plane * elements;
    MEDSYNTH_GRID_STRIDE(i, elements) out[i] = finish(out[i], low, scale, p.normalise, p.power != nullptr, power);
  }
}

void synth_image_cuda(const SynthImageParams& p, void* stream) {
  const GmmSampleParams& s = p.sample;
  const auto on = static_cast<cudaStream_t>(stream);
  const int64_t planes = s.batch * s.channels;
  MEDSYNTH_LAUNCH(synth_start_kernel, blocks_for(planes, kThreads), kThreads, on, static_cast<Word*>(p.extremes),
                  planes);
  check_launch("synth_image");
  dispatch_float(s.dtype, [&](auto value) {
    using T = decltype(value);
    const dim3 grid(limited(blocks_for(block_count<kPerBlock<T>>(s.grid), kThreads), 2048), limited(planes, 65535));
    const auto bytes = static_cast<size_t>(shared_table_bytes<T>(s.known()));
    dispatch_label(s.label_type, [&](auto label) {
      MEDSYNTH_LAUNCH_SHARED((synth_first_kernel<T, decltype(label)>), grid, kThreads, bytes, on, p, bytes != 0);
    });
    check_launch("synth_image");
    if (!p.normalise && p.power == nullptr) return;
    const dim3 second(limited(blocks_for(s.grid.elements(), kThreads), 8192), limited(planes, 65535));
    MEDSYNTH_LAUNCH(synth_second_kernel<T>, second, kThreads, on, p);
    check_launch("synth_image");
  });
}

}  // namespace medsynth
