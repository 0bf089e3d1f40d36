// Union-find with atomic minima. The order of the unions does not matter: a region's root is its first voxel.
#include "../common/cuda.h"
#include "connected_components_math.h"

namespace medsynth {

namespace {

constexpr int kThreads = 256;
constexpr int kScanThreads = 1024;

}  // namespace

__device__ __forceinline__ int32_t root_of(const int32_t* parent, int32_t i) {
  const volatile int32_t* entries = parent;
  for (int32_t up = entries[i - 1]; up != i; up = entries[i - 1]) i = up;
  return i;
}

__device__ void join(int32_t* parent, int32_t a, int32_t b) {
  for (;;) {
    a = root_of(parent, a);
    b = root_of(parent, b);
    if (a == b) return;
    if (a > b) {
      const int32_t t = a;
      a = b;
      b = t;
    }
    const int32_t before = atomicMin(parent + b - 1, a);
    if (before == b) return;  // b was a root and now hangs below a
    b = before;               // somebody else moved b: join with what it hangs below
  }
}

__global__ void __launch_bounds__(kThreads) components_init_kernel(ConnectedComponentsParams p) {
  const int64_t volume = p.volume();
  MEDSYNTH_GRID_STRIDE(i, p.count * volume) { p.labels[i] = p.mask[i] == 0 ? 0 : static_cast<int32_t>(i % volume + 1); }
}

__global__ void __launch_bounds__(kThreads) components_join_kernel(ConnectedComponentsParams p) {
  const int64_t volume = p.volume();
  MEDSYNTH_GRID_STRIDE(i, p.count * volume) {
    if (p.mask[i] == 0) continue;
    const int64_t start = i / volume * volume;
    earlier_neighbours(p, i - start, [&](int64_t other) {
      if (p.mask[start + other] != 0) {
        join(p.labels + start, static_cast<int32_t>(i - start + 1), static_cast<int32_t>(other + 1));
      }
    });
  }
}

// Every voxel points at its root.
__global__ void __launch_bounds__(kThreads) components_flatten_kernel(ConnectedComponentsParams p) {
  const int64_t volume = p.volume();
  MEDSYNTH_GRID_STRIDE(i, p.count * volume) {
    if (p.mask[i] == 0) continue;
    int32_t* parent = p.labels + i / volume * volume;
    const int32_t mine = static_cast<int32_t>(i % volume + 1), root = root_of(parent, mine);
    parent[mine - 1] = root;  // a concurrent reader finds the old or the new parent, both of the same tree
  }
}

// One block a map numbers the roots in raster order; a root's entry becomes minus its label.
__global__ void __launch_bounds__(kScanThreads) components_number_kernel(ConnectedComponentsParams p) {
  __shared__ int32_t sums[kScanThreads / 32];
  const int64_t volume = p.volume();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int64_t map = blockIdx.x; map < p.count; map += gridDim.x) {
    int32_t* labels = p.labels + map * volume;
    int32_t base = 0;
    for (int64_t start = 0; start < volume; start += kScanThreads) {
      const int64_t i = start + threadIdx.x;
      const bool root = i < volume && labels[i] == static_cast<int32_t>(i + 1);
      const unsigned ballot = __ballot_sync(0xFFFFFFFFu, root);
      if (lane == 0) sums[warp] = __popc(ballot);
      __syncthreads();
      int32_t before = base, all = 0;
      for (int w = 0; w < kScanThreads / 32; ++w) {
        before += w < warp ? sums[w] : 0;
        all += sums[w];
      }
      if (root) labels[i] = -(before + __popc(ballot & ((1u << lane) - 1u)) + 1);
      base += all;
      __syncthreads();
    }
  }
}

__global__ void __launch_bounds__(kThreads) components_label_kernel(ConnectedComponentsParams p) {
  const int64_t volume = p.volume();
  MEDSYNTH_GRID_STRIDE(i, p.count * volume) {
    const int32_t entry = p.labels[i];
    if (entry > 0) p.labels[i] = p.labels[i / volume * volume + entry - 1];  // the root's, which stays negative here
  }
}

__global__ void __launch_bounds__(kThreads) components_sign_kernel(ConnectedComponentsParams p) {
  MEDSYNTH_GRID_STRIDE(i, p.count * p.volume()) p.labels[i] = -p.labels[i];
}

void connected_components_cuda(const ConnectedComponentsParams& p, void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  const unsigned blocks = blocks_for(p.count * p.volume(), kThreads);
  MEDSYNTH_LAUNCH(components_init_kernel, blocks, kThreads, s, p);
  MEDSYNTH_LAUNCH(components_join_kernel, blocks, kThreads, s, p);
  MEDSYNTH_LAUNCH(components_flatten_kernel, blocks, kThreads, s, p);
  MEDSYNTH_LAUNCH(components_number_kernel, static_cast<unsigned>(p.count < 65535 ? p.count : 65535), kScanThreads, s,
                  p);
  MEDSYNTH_LAUNCH(components_label_kernel, blocks, kThreads, s, p);
  MEDSYNTH_LAUNCH(components_sign_kernel, blocks, kThreads, s, p);
  check_launch("connected_components");
}

}  // namespace medsynth
