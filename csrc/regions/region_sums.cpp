#include "region_sums.h"

#include <torch/csrc/stable/library.h>

#include "../common/check.h"
#include "../common/cuda_stream.h"

namespace medsynth {
namespace {

Tensor region_sums(Tensor labels, Tensor q, std::optional<Tensor> cut, int64_t regions) {
  STD_TORCH_CHECK(labels.dim() == 3, "labels must be (N, H, W), got ", shape_of(labels));
  STD_TORCH_CHECK(labels.scalar_type() == ScalarType::Int, "labels must be int32");
  STD_TORCH_CHECK(q.scalar_type() == ScalarType::Byte, "q must be uint8");
  STD_TORCH_CHECK(regions >= 1 && regions < (int64_t{1} << 31), "regions must be at least 1, got ", regions);
  RegionSumsParams p{};
  p.count = labels.size(0);
  p.height = labels.size(1);
  p.width = labels.size(2);
  p.regions = regions;
  check_shape(q, "q", {p.count, p.height, p.width});
  check_same_device(labels, "labels", q, "q");
  labels = torch::stable::contiguous(labels);
  q = torch::stable::contiguous(q);
  p.labels = labels.const_data_ptr<int32_t>();
  p.q = q.const_data_ptr<uint8_t>();
  if (cut) {
    STD_TORCH_CHECK(cut->scalar_type() == ScalarType::Long, "cut must be int64");
    check_shape(*cut, "cut", {p.count, regions, 4});
    check_same_device(labels, "labels", *cut, "cut");
    *cut = torch::stable::contiguous(*cut);
    p.cut = cut->const_data_ptr<int64_t>();
  }
  Tensor table =
      torch::stable::new_empty(labels, {p.count, cut ? 2 * regions : regions, kRegionColumns}, ScalarType::Long);
  if (p.count == 0) return table;
  p.table = table.mutable_data_ptr<int64_t>();
#ifdef MEDSYNTH_WITH_CUDA
  if (on_cuda(labels)) {
    const CudaScope scope(labels.get_device());
    region_sums_cuda(p, scope.stream);
    return table;
  }
#endif
  region_sums_cpu(p);
  return table;
}

}  // namespace
}  // namespace medsynth

STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, CPU, m) { m.impl("region_sums", TORCH_BOX(&medsynth::region_sums)); }
#ifdef MEDSYNTH_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, CUDA, m) { m.impl("region_sums", TORCH_BOX(&medsynth::region_sums)); }
#endif
