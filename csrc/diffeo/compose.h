// compose: w(x) = u2(x) + u1(x + u2(x)), linear sampling. Warping by u1 and then by u2 equals one warp by w.
// Backward, with g = dL/dw: grad_u1 is the adjoint of sampling at x + u2 applied to g; grad_u2 = g + J^T g with J the
// derivative of the sampled u1 to the location.
#pragma once
#include "../common/isa.h"
#include "../common/types.h"
#include "quad_math.h"

namespace medsynth {

struct ComposeParams {
  const void* u1;    // (batch or 1, dims, *grid)
  const void* u2;    // (batch or 1, dims, *grid)
  const void* grad;  // backward: (batch, dims, *grid)
  void* out;         // (batch, dims, *grid)
  void* grad_u1;     // backward: (batch, dims, *grid)
  void* grad_u2;     // backward: (batch, dims, *grid)
  void* scratch;     // CUDA only: see compose_scratch_bytes
  DType dtype;
  Border border;
  int64_t batch;
  int64_t stride1, stride2;  // elements from a sample to the next, 0 for a shared one
  QuadGrid grid;
};

MEDSYNTH_DECLARE_CPU(compose, ComposeParams)
MEDSYNTH_DECLARE_CPU(compose_backward, ComposeParams)

int64_t compose_scratch_bytes(const ComposeParams& p);
int64_t compose_backward_scratch_bytes(const ComposeParams& p);
void compose_cuda(const ComposeParams& p, void* stream);
void compose_backward_cuda(const ComposeParams& p, void* stream);

}  // namespace medsynth
