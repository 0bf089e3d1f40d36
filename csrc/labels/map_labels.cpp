#include "map_labels.h"

#include <torch/csrc/stable/library.h>

#include "../common/check.h"
#include "../common/cuda_stream.h"

namespace medsynth {
namespace {

int32_t element_bytes(const Tensor& table) {
  switch (table.scalar_type()) {
    case ScalarType::Bool:
    case ScalarType::Byte:
    case ScalarType::Char: return 1;
    case ScalarType::Short: return 2;
    case ScalarType::Int:
    case ScalarType::Float: return 4;
    case ScalarType::Long:
    case ScalarType::Double: return 8;
    default: STD_TORCH_CHECK(false, "table must be an integer, float32 or float64 tensor");
  }
  return 0;
}

// Writes into `out` and returns the position of the first unknown label per sample (-1: none), int64 (B).
Tensor map_labels_out(Tensor labels, Tensor table, Tensor out) {
  STD_TORCH_CHECK(labels.dim() >= 1, "labels must have a batch axis");
  const int64_t batch = labels.size(0);
  STD_TORCH_CHECK(table.dim() == 2 && (table.size(0) == batch || table.size(0) == 1), "table must be (", batch,
                  " or 1, entries), got ", shape_of(table));
  STD_TORCH_CHECK(table.size(1) > 0, "table must have at least one entry");
  check_same_device(labels, "labels", table, "table");
  check_out(out, std::vector<int64_t>(labels.sizes().begin(), labels.sizes().end()), labels);
  check_same_dtype(table, "table", out, "out");
  const DType type = label_dtype(labels, "labels");
  labels = torch::stable::contiguous(labels);
  table = torch::stable::contiguous(table);
  Tensor unknown = torch::stable::new_empty(labels, {batch}, ScalarType::Long);
  torch::stable::fill_(unknown, -1);
  const int64_t voxels = batch == 0 ? 0 : labels.numel() / batch;
  const MapLabelsParams p{labels.const_data_ptr(),
                          table.const_data_ptr(),
                          out.mutable_data_ptr(),
                          type,
                          element_bytes(table),
                          batch,
                          voxels,
                          table.size(1),
                          table.size(0) == 1 ? 0 : table.size(1),
                          unknown.mutable_data_ptr<int64_t>()};
#ifdef MEDSYNTH_WITH_CUDA
  if (on_cuda(labels)) {
    const CudaScope scope(labels.get_device());
    map_labels_cuda(p, scope.stream);
    return unknown;
  }
#endif
  map_labels_cpu(p);
  return unknown;
}

}  // namespace
}  // namespace medsynth

STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, CPU, m) { m.impl("map_labels_out", TORCH_BOX(&medsynth::map_labels_out)); }
#ifdef MEDSYNTH_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, CUDA, m) { m.impl("map_labels_out", TORCH_BOX(&medsynth::map_labels_out)); }
#endif
