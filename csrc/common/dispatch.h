// Turns a run-time DType into a compile-time type: dispatch_float(dtype, [&](auto tag) { using T = decltype(tag); ...
// }).
#pragma once
#include "isa.h"
#include "types.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

template <class F>
void dispatch_float(DType t, F&& f) {
  if (t == DType::f64) {
    f(double{});
  } else {
    f(float{});
  }
}

template <class F>
void dispatch_label(DType t, F&& f) {
  switch (t) {
    case DType::u8: f(uint8_t{}); break;
    case DType::i16: f(int16_t{}); break;
    case DType::i32: f(int32_t{}); break;
    default: f(int64_t{}); break;
  }
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
