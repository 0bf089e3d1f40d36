#include "isa.h"

#include <atomic>
#include <cstdlib>
#include <cstring>

namespace medsynth {

Isa best_isa() {
#ifdef MEDSYNTH_MULTI_ISA
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma")) {
    return Isa::avx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::avx2;
#endif
  return Isa::base;
}

namespace {

Isa at_most(Isa wanted) { return static_cast<int>(wanted) < static_cast<int>(best_isa()) ? wanted : best_isa(); }

Isa from_environment() {
  const char* name = std::getenv("MEDSYNTH_ISA");
  if (name == nullptr) return best_isa();
  if (std::strcmp(name, "base") == 0) return Isa::base;
  if (std::strcmp(name, "avx2") == 0) return at_most(Isa::avx2);
  return best_isa();
}

std::atomic<Isa>& chosen() {
  static std::atomic<Isa> isa{from_environment()};
  return isa;
}

}  // namespace

Isa current_isa() { return chosen().load(std::memory_order_relaxed); }

Isa set_isa(Isa isa) {
  chosen().store(at_most(isa), std::memory_order_relaxed);
  return current_isa();
}

}  // namespace medsynth
