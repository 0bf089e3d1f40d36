// map_labels: out[b, x] = table[b, labels[b, x]], for tables of any element type (moved as bytes).
#pragma once
#include "../common/isa.h"
#include "../common/types.h"

namespace medsynth {

struct MapLabelsParams {
  const void* labels;  // (batch, voxels)
  const void* table;   // (batch or 1, entries)
  void* out;           // (batch, voxels), elements like the table's
  DType label_dtype;
  int32_t element_bytes;  // 1, 2, 4 or 8
  int64_t batch, voxels, entries;
  int64_t table_stride;    // entries between the tables of two samples, 0 when they share one
  int64_t* first_unknown;  // one element per sample: the lowest position whose label has no entry, else -1; may be null
};

MEDSYNTH_DECLARE_CPU(map_labels, MapLabelsParams)
void map_labels_cuda(const MapLabelsParams& p, void* stream);

}  // namespace medsynth
