// One CPU source, several instruction sets.
//
// setup.py compiles every *_cpu.cpp once per instruction set, with MEDSYNTH_ISA_NAMESPACE set to cpu_base, cpu_avx2 or
// cpu_avx512 and the matching -m flags. Everything such a file includes from this project lives in that inline
// namespace, so no function compiled for AVX-512 can be picked by the linker for an older machine. The kernels include
// no torch header and keep away from the standard library's templates for the same reason.
//
//   foo.h:        MEDSYNTH_DECLARE_CPU(foo, FooParams)      declares foo_cpu(const FooParams&), which picks one
//   foo_cpu.cpp:  MEDSYNTH_DEFINE_CPU(foo, FooParams, p) { ... }
#pragma once

#ifndef MEDSYNTH_ISA_NAMESPACE
#define MEDSYNTH_ISA_NAMESPACE cpu_base
#endif

#ifdef __CUDACC__
#define MEDSYNTH_HD __host__ __device__ __forceinline__
#define MEDSYNTH_UNROLL _Pragma("unroll")
#else
#define MEDSYNTH_HD inline __attribute__((always_inline))
#define MEDSYNTH_UNROLL _Pragma("GCC unroll 16")
#endif

namespace medsynth {

enum class Isa : int { base = 0, avx2 = 1, avx512 = 2 };

// The instruction set in use: the best that the processor has, unless the environment variable MEDSYNTH_ISA
// (base, avx2, avx512) or set_isa says otherwise.
Isa current_isa();
// The best that was compiled and that this processor has.
Isa best_isa();
// Uses at most `isa`; returns what is in use now.
Isa set_isa(Isa isa);

}  // namespace medsynth

#ifdef MEDSYNTH_MULTI_ISA
#define MEDSYNTH_DECLARE_CPU(name, Params)          \
  namespace cpu_base {                              \
  void name(const Params&);                         \
  }                                                 \
  namespace cpu_avx2 {                              \
  void name(const Params&);                         \
  }                                                 \
  namespace cpu_avx512 {                            \
  void name(const Params&);                         \
  }                                                 \
  inline void name##_cpu(const Params& p) {         \
    switch (current_isa()) {                        \
      case Isa::avx512: return cpu_avx512::name(p); \
      case Isa::avx2: return cpu_avx2::name(p);     \
      default: return cpu_base::name(p);            \
    }                                               \
  }
#else
#define MEDSYNTH_DECLARE_CPU(name, Params) \
  namespace cpu_base {                     \
  void name(const Params&);                \
  }                                        \
  inline void name##_cpu(const Params& p) { cpu_base::name(p); }
#endif
#define MEDSYNTH_DEFINE_CPU(name, Params, p) void MEDSYNTH_ISA_NAMESPACE::name(const Params& p)
