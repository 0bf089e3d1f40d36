#include "connected_components.h"

#include <torch/csrc/stable/library.h>

#include "../common/check.h"
#include "../common/cuda_stream.h"

namespace medsynth {
namespace {

Tensor connected_components(Tensor mask, bool full) {
  const ScalarType type = mask.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Bool || type == ScalarType::Byte, "mask must be bool or uint8");
  const Spatial s = spatial_of(mask, 1, "mask");
  STD_TORCH_CHECK(s.voxels() < (int64_t{1} << 31) - 1, "masks must have fewer than 2^31 - 1 voxels each");
  mask = torch::stable::contiguous(mask);
  Tensor labels = torch::stable::new_empty(mask, mask.sizes(), ScalarType::Int);
  if (labels.numel() == 0) return labels;
  ConnectedComponentsParams p{};
  p.mask = static_cast<const uint8_t*>(mask.const_data_ptr());
  p.labels = labels.mutable_data_ptr<int32_t>();
  p.count = mask.size(0);
  for (int d = 0; d < 3; ++d) p.n[d] = s.n[d];
  p.full = full;
#ifdef MEDSYNTH_WITH_CUDA
  if (on_cuda(mask)) {
    const CudaScope scope(mask.get_device());
    connected_components_cuda(p, scope.stream);
    return labels;
  }
#endif
  connected_components_cpu(p);
  return labels;
}

}  // namespace
}  // namespace medsynth

STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, CPU, m) {
  m.impl("connected_components", TORCH_BOX(&medsynth::connected_components));
}
#ifdef MEDSYNTH_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, CUDA, m) {
  m.impl("connected_components", TORCH_BOX(&medsynth::connected_components));
}
#endif
