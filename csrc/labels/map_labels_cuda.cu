#include "../common/cuda.h"
#include "../common/dispatch.h"
#include "map_labels_math.h"

namespace medsynth {

template <class Label, class Element>
__global__ void map_labels_kernel(MapLabelsParams p) {
  MEDSYNTH_GRID_STRIDE(i, p.batch * p.voxels) {
    const int64_t b = i / p.voxels;
    const Element* table = static_cast<const Element*>(p.table) + b * p.table_stride;
    const bool known =
        map_label(table, p.entries, static_cast<const Label*>(p.labels)[i], static_cast<Element*>(p.out) + i);
    if (!known && p.first_unknown != nullptr) {
      // As unsigned numbers the initial -1 is the largest, so the minimum is the lowest position.
      atomicMin(reinterpret_cast<unsigned long long*>(p.first_unknown + b),
                static_cast<unsigned long long>(i - b * p.voxels));
    }
  }
}

void map_labels_cuda(const MapLabelsParams& p, void* stream) {
  if (p.batch * p.voxels == 0) return;
  dispatch_label(p.label_dtype, [&](auto label_tag) {
    dispatch_element(p.element_bytes, [&](auto element_tag) {
      MEDSYNTH_LAUNCH((map_labels_kernel<decltype(label_tag), decltype(element_tag)>),
                      blocks_for(p.batch * p.voxels, 256), 256, static_cast<cudaStream_t>(stream), p);
    });
  });
  check_launch("map_labels");
}

}  // namespace medsynth
