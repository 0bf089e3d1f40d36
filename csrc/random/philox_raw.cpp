#include "philox_raw.h"

#include <torch/csrc/stable/library.h>

#include "../common/check.h"
#include "../common/cuda_stream.h"

namespace medsynth {
namespace {

Tensor philox_raw(Tensor counters, int64_t key0, int64_t key1) {
  STD_TORCH_CHECK(counters.scalar_type() == ScalarType::Long, "counters must be int64");
  STD_TORCH_CHECK(counters.dim() == 2 && counters.size(1) == 4, "counters must be (N, 4), got ", shape_of(counters));
  counters = torch::stable::contiguous(counters);
  Tensor out = torch::stable::empty_like(counters);
  const PhiloxRawParams p{counters.const_data_ptr<int64_t>(), out.mutable_data_ptr<int64_t>(), counters.size(0),
                          static_cast<uint32_t>(key0), static_cast<uint32_t>(key1)};
#ifdef MEDSYNTH_WITH_CUDA
  if (on_cuda(counters)) {
    const CudaScope scope(counters.get_device());
    philox_raw_cuda(p, scope.stream);
    return out;
  }
#endif
  philox_raw_cpu(p);
  return out;
}

}  // namespace
}  // namespace medsynth

STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, CPU, m) { m.impl("philox_raw", TORCH_BOX(&medsynth::philox_raw)); }
#ifdef MEDSYNTH_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, CUDA, m) { m.impl("philox_raw", TORCH_BOX(&medsynth::philox_raw)); }
#endif
