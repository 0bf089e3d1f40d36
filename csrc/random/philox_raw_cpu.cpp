#include "../common/parallel.h"
#include "philox_raw_math.h"

namespace medsynth {

MEDSYNTH_DEFINE_CPU(philox_raw, PhiloxRawParams, p) {
  parallel_for(0, p.n, 4096, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) philox_raw_row(p, i);
  });
}

}  // namespace medsynth
