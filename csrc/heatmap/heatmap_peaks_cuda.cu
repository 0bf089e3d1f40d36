#include "../common/dispatch.h"
#include "peak_refine_math.h"
#include "quads.cuh"

namespace medsynth {

namespace {

constexpr int kThreads = 256;
constexpr uint32_t kTaken = 0xFFFFFFFFu;

}  // namespace

// The better of two finds: larger, or equal and earlier; index -1 is none.
template <class T>
__device__ __forceinline__ bool better(T value, int64_t index, T than, int64_t than_index) {
  if (index < 0) return false;
  return than_index < 0 || value > than || (value == than && index < than_index);
}

// The best find of a block, in all of its threads.
template <class T>
__device__ void best_of_block(T& value, int64_t& index) {
  __shared__ T values[kThreads];
  __shared__ int64_t indices[kThreads];
  __syncthreads();  // the last result has been read
  values[threadIdx.x] = value;
  indices[threadIdx.x] = index;
  for (int half = kThreads / 2; half > 0; half >>= 1) {
    __syncthreads();
    const int other = threadIdx.x + half;
    if (threadIdx.x < half && better(values[other], indices[other], values[threadIdx.x], indices[threadIdx.x])) {
      values[threadIdx.x] = values[other];
      indices[threadIdx.x] = indices[other];
    }
  }
  __syncthreads();
  value = values[0];
  index = indices[0];
}

// One block a segment; each thread reads Width neighbouring voxels at a time.
template <class T, int Width>
__global__ void __launch_bounds__(kThreads) peak_segments_kernel(HeatmapPeaksParams p) {
  const int64_t volume = p.volume(), length = ((volume + p.segments - 1) / p.segments + Width - 1) / Width * Width;
  for (int64_t item = blockIdx.x; item < p.count * p.segments; item += gridDim.x) {
    const int64_t map = item / p.segments, first = item % p.segments * length;
    const int64_t last = first + length < volume ? first + length : volume;
    const T* h = static_cast<const T*>(p.maps) + map * volume;
    T value = static_cast<T>(-INFINITY);
    int64_t index = -1;
    const auto take = [&](T v, int64_t i) {
      if (v > value || (v == value && index < 0)) {
        value = v;
        index = i;
      }
    };
#pragma unroll 4
    for (int64_t i = first + threadIdx.x * Width; i < last; i += kThreads * Width) {
      if constexpr (Width == 4) {
        const Four<T> four = load_four(h + i);
        for (int k = 0; k < 4; ++k) take(four.v[k], i + k);
      } else {
        take(h[i], i);
      }
    }
    best_of_block(value, index);
    if (threadIdx.x == 0) {
      static_cast<T*>(p.scratch)[item] = value;
      p.places[item] = index;
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) peak_finish_kernel(HeatmapPeaksParams p) {
  MEDSYNTH_GRID_STRIDE(map, p.count) {
    T value = static_cast<T>(NAN);
    int64_t index = -1;
    for (int64_t s = 0; s < p.segments; ++s) {
      const T other = static_cast<const T*>(p.scratch)[map * p.segments + s];
      const int64_t place = p.places[map * p.segments + s];
      if (better(other, place, value, index)) {
        value = other;
        index = place;
      }
    }
    p.index[map] = index;
    store_peak(p, map, 0, index, value);
  }
}

// Writes down the local maxima of every map, in any order.
template <class T, int Width>
__global__ void __launch_bounds__(kThreads) nms_candidates_kernel(HeatmapPeaksParams p) {
  const int64_t volume = p.volume();
  const T threshold = static_cast<T>(p.threshold);
  const auto test = [&](T value, int64_t i) {
    if (!(value > threshold)) return;
    const int64_t map = i / volume;
    int64_t r[3];
    place_of(i - map * volume, p.n, r);
    const T* h = static_cast<const T*>(p.maps) + map * volume;
    if (!peak_allowed(p, r) || !is_local_maximum(p, h, r[0], r[1], r[2])) return;
    const int64_t place = atomicAdd(p.waiting + map, 1);
    if (place < p.capacity) {
      static_cast<uint32_t*>(p.scratch)[map * p.capacity + place] = static_cast<uint32_t>(i - map * volume);
    }
  };
  MEDSYNTH_GRID_STRIDE(group, p.count * volume / Width) {
    const T* h = static_cast<const T*>(p.maps) + group * Width;
    if constexpr (Width == 4) {
      const Four<T> four = load_four(h);
      for (int k = 0; k < 4; ++k) test(four.v[k], group * 4 + k);
    } else {
      test(*h, group);
    }
  }
}

// One block a map. Which candidate comes first depends on value and index only, not on the order in the list.
template <class T>
__global__ void __launch_bounds__(kThreads) nms_select_kernel(HeatmapPeaksParams p) {
  for (int64_t map = blockIdx.x; map < p.count; map += gridDim.x) {
    const T* h = static_cast<const T*>(p.maps) + map * p.volume();
    auto* list = static_cast<uint32_t*>(p.scratch) + map * p.capacity;
    const int64_t size = p.waiting[map] < p.capacity ? p.waiting[map] : p.capacity;
    int64_t found = 0;
    for (; found < p.max_peaks; ++found) {
      T value = static_cast<T>(-INFINITY);
      int64_t index = -1;
      for (int64_t i = threadIdx.x; i < size; i += kThreads) {
        if (list[i] == kTaken) continue;
        const auto place = static_cast<int64_t>(list[i]);
        if (better(h[place], place, value, index)) {
          value = h[place];
          index = place;
        }
      }
      best_of_block(value, index);
      if (index < 0) break;  // the same for all threads
      // Every thread marks what it will read itself, so no other thread has to wait.
      for (int64_t i = threadIdx.x; i < size; i += kThreads) {
        if (list[i] == kTaken) continue;
        const auto place = static_cast<int64_t>(list[i]);
        if (place == index || (p.radius > 0 && peaks_near(p, place, index))) list[i] = kTaken;
      }
      if (threadIdx.x == 0) store_peak(p, map, found, index, value);
    }
    if (threadIdx.x == 0) p.found[map] = found;
    for (int64_t k = found + threadIdx.x; k < p.max_peaks; k += kThreads) {
      store_peak(p, map, k, -1, static_cast<T>(-INFINITY));
    }
  }
}

void heatmap_peak_cuda(const HeatmapPeaksParams& p, void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  const unsigned blocks = blocks_for(p.count * p.segments, 1);
  dispatch_float(p.dtype, [&](auto tag) {
    using T = decltype(tag);
    if (rows_of_fours<T>(p.maps, p.volume())) {
      MEDSYNTH_LAUNCH((peak_segments_kernel<T, 4>), blocks, kThreads, s, p);
    } else {
      MEDSYNTH_LAUNCH((peak_segments_kernel<T, 1>), blocks, kThreads, s, p);
    }
    check_launch("heatmap_peak");
    MEDSYNTH_LAUNCH(peak_finish_kernel<T>, at_most_blocks((p.count + 31) / 32), 32, s, p);
  });
  check_launch("heatmap_peak");
}

void heatmap_peaks_nms_cuda(const HeatmapPeaksParams& p, void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  const int64_t voxels = p.count * p.volume();
  dispatch_float(p.dtype, [&](auto tag) {
    using T = decltype(tag);
    if (rows_of_fours<T>(p.maps, p.volume())) {
      MEDSYNTH_LAUNCH((nms_candidates_kernel<T, 4>), blocks_for(voxels / 4, kThreads * 4), kThreads, s, p);
    } else {
      MEDSYNTH_LAUNCH((nms_candidates_kernel<T, 1>), blocks_for(voxels, kThreads * 4), kThreads, s, p);
    }
    check_launch("heatmap_peaks_nms");
    MEDSYNTH_LAUNCH(nms_select_kernel<T>, at_most_blocks(p.count), kThreads, s, p);
  });
  check_launch("heatmap_peaks_nms");
}

}  // namespace medsynth
