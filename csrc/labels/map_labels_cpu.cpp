#include "../common/dispatch.h"
#include "../common/parallel.h"
#include "map_labels_math.h"

namespace medsynth {

MEDSYNTH_DEFINE_CPU(map_labels, MapLabelsParams, p) {
  constexpr int64_t kChunk = 16384;
  const int64_t chunks = (p.voxels + kChunk - 1) / kChunk;
  dispatch_label(p.label_dtype, [&](auto label_tag) {
    dispatch_element(p.element_bytes, [&](auto element_tag) {
      using Label = decltype(label_tag);
      using Element = decltype(element_tag);
      parallel_for(0, p.batch * chunks, 4, [&](int64_t begin, int64_t end) {
        for (int64_t c = begin; c < end; ++c) {
          const int64_t b = c / chunks;
          const int64_t first = (c % chunks) * kChunk;
          const int64_t last = first + kChunk < p.voxels ? first + kChunk : p.voxels;
          const auto* labels = static_cast<const Label*>(p.labels) + b * p.voxels;
          const auto* table = static_cast<const Element*>(p.table) + b * p.table_stride;
          auto* out = static_cast<Element*>(p.out) + b * p.voxels;
          bool known = true;
          for (int64_t v = first; v < last; ++v) known &= map_label(table, p.entries, labels[v], out + v);
          if (known || p.first_unknown == nullptr) continue;
          Element ignored;
          for (int64_t v = first; v < last; ++v) {
            if (map_label(table, p.entries, labels[v], &ignored)) continue;
            // Several threads may report for one sample: keep the lowest position.
            int64_t seen = __atomic_load_n(p.first_unknown + b, __ATOMIC_RELAXED);
            while ((seen < 0 || v < seen) && !__atomic_compare_exchange_n(p.first_unknown + b, &seen, v, false,
                                                                          __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
            }
            break;
          }
        }
      });
    });
  });
}

}  // namespace medsynth
