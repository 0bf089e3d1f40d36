// parallel_for for kernels that must not see torch's headers; runs on torch's own threads and obeys
// torch.set_num_threads.
#pragma once
#include <cstdint>

#include "isa.h"

namespace medsynth {

void parallel_for_erased(int64_t begin, int64_t end, int64_t grain, void (*body)(void*, int64_t, int64_t), void* self);
int64_t thread_count();

inline namespace MEDSYNTH_ISA_NAMESPACE {

// Calls f(b, e) on disjoint ranges that cover [begin, end). The split depends on the number of threads: a kernel must
// own disjoint outputs and keep every sum inside one output.
template <class F>
void parallel_for(int64_t begin, int64_t end, int64_t grain, F f) {
  if (begin >= end) return;
  parallel_for_erased(
      begin, end, grain < 1 ? 1 : grain, [](void* self, int64_t b, int64_t e) { (*static_cast<F*>(self))(b, e); }, &f);
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
