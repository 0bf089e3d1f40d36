#include "../common/cuda.h"
#include "philox_raw_math.h"

namespace medsynth {

__global__ void philox_raw_kernel(PhiloxRawParams p) { MEDSYNTH_GRID_STRIDE(i, p.n) philox_raw_row(p, i); }

void philox_raw_cuda(const PhiloxRawParams& p, void* stream) {
  if (p.n == 0) return;
  MEDSYNTH_LAUNCH(philox_raw_kernel, blocks_for(p.n, 256), 256, static_cast<cudaStream_t>(stream), p);
  check_launch("philox_raw");
}

}  // namespace medsynth
