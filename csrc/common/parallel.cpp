#include "parallel.h"

#include <torch/csrc/stable/ops.h>

namespace medsynth {

void parallel_for_erased(int64_t begin, int64_t end, int64_t grain, void (*body)(void*, int64_t, int64_t), void* self) {
  torch::stable::parallel_for(begin, end, grain, [=](int64_t b, int64_t e) { body(self, b, e); });
}

int64_t thread_count() { return static_cast<int64_t>(torch::stable::get_num_threads()); }

}  // namespace medsynth
