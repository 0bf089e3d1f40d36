#include "../common/parallel.h"
#include "region_sums_math.h"

namespace medsynth {

MEDSYNTH_DEFINE_CPU(region_sums, RegionSumsParams, p) {
  parallel_for(0, p.count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t map = begin; map < end; ++map) {
      int64_t* table = p.table + map * p.rows() * kRegionColumns;
      for (int64_t i = 0; i < p.rows() * kRegionColumns; ++i) table[i] = region_start(p, i % kRegionColumns);
      const int64_t start = map * p.height * p.width;
      for (int64_t y = 0; y < p.height; ++y) {
        for (int64_t x = 0; x < p.width; ++x) {
          const int64_t at = start + y * p.width + x;
          if (p.labels[at] == 0) continue;
          const int64_t row = region_row(p, map, p.labels[at], y, x);
          if (row < 0) continue;
          int64_t* of = p.table + row * kRegionColumns;
          add_pixel(
              y, x, p.q[at], [&](int c, int64_t v) { of[c] += v; },
              [&](int c, int64_t v) { of[c] = v < of[c] ? v : of[c]; },
              [&](int c, int64_t v) { of[c] = v > of[c] ? v : of[c]; });
        }
      }
    }
  });
}

}  // namespace medsynth
