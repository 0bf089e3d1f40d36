// integrate_svf: the displacement at time one of a stationary velocity field, by scaling and squaring.
//
// u_0 = +-v / 2^steps, u_{k+1}(x) = u_k(x) + u_k(x + u_k(x)), linear sampling; the result is u_steps. Backward:
//   dL/du_k(x) = g(x) + J_k(x)^T g(x) + (the adjoint of sampling at x + u_k applied to g)(x),   g = dL/du_{k+1}
#pragma once
#include "../common/isa.h"
#include "../common/types.h"
#include "quad_math.h"

namespace medsynth {

struct IntegrateSvfParams {
  const void* velocity;  // (batch, dims, *grid)
  void* out;             // like velocity: the displacement, or the gradient to the velocity
  const void* grad;      // backward: like velocity, the gradient to the displacement
  void* levels;          // (batch, steps, voxels, 4): u_0 .. u_{steps-1}; forward writes, backward reads; or null
  void* scratch;         // CUDA only: see integrate_svf_scratch_bytes
  DType dtype;
  Border border;
  int64_t batch;
  QuadGrid grid;
  int32_t steps;
  bool inverse;
};

MEDSYNTH_DECLARE_CPU(integrate_svf, IntegrateSvfParams)
MEDSYNTH_DECLARE_CPU(integrate_svf_backward, IntegrateSvfParams)

// Scratch that the CUDA kernels need.
int64_t integrate_svf_scratch_bytes(const IntegrateSvfParams& p);
int64_t integrate_svf_backward_scratch_bytes(const IntegrateSvfParams& p);
void integrate_svf_cuda(const IntegrateSvfParams& p, void* stream);
void integrate_svf_backward_cuda(const IntegrateSvfParams& p, void* stream);

}  // namespace medsynth
