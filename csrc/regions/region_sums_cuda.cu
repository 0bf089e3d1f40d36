// Integer atomics: the order of the additions does not matter.
#include "../common/cuda.h"
#include "region_sums_math.h"

namespace medsynth {

namespace {

constexpr int kThreads = 256;
using Count = unsigned long long;  // of the same bits as int64_t; all values are positive

}  // namespace

__global__ void __launch_bounds__(kThreads) region_start_kernel(RegionSumsParams p) {
  MEDSYNTH_GRID_STRIDE(i, p.count * p.rows() * kRegionColumns) p.table[i] = region_start(p, i % kRegionColumns);
}

__global__ void __launch_bounds__(kThreads) region_sums_kernel(RegionSumsParams p) {
  const int64_t pixels = p.height * p.width;
  MEDSYNTH_GRID_STRIDE(i, p.count * pixels) {
    if (p.labels[i] == 0) continue;
    const int64_t map = i / pixels, at = i - map * pixels, y = at / p.width, x = at - y * p.width;
    const int64_t row = region_row(p, map, p.labels[i], y, x);
    if (row < 0) continue;
    auto* of = reinterpret_cast<Count*>(p.table + row * kRegionColumns);
    add_pixel(
        y, x, p.q[i], [&](int c, int64_t v) { atomicAdd(of + c, static_cast<Count>(v)); },
        [&](int c, int64_t v) { atomicMin(of + c, static_cast<Count>(v)); },
        [&](int c, int64_t v) { atomicMax(of + c, static_cast<Count>(v)); });
  }
}

void region_sums_cuda(const RegionSumsParams& p, void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  MEDSYNTH_LAUNCH(region_start_kernel, blocks_for(p.count * p.rows() * kRegionColumns, kThreads), kThreads, s, p);
  MEDSYNTH_LAUNCH(region_sums_kernel, blocks_for(p.count * p.height * p.width, kThreads), kThreads, s, p);
  check_launch("region_sums");
}

}  // namespace medsynth
