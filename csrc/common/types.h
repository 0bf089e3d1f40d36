// Element types that cross the border between the doors (which know torch) and the kernels (which do not).
#pragma once
#include <cstdint>

namespace medsynth {

enum class DType : int32_t { f32, f64, u8, i16, i32, i64 };

constexpr int64_t size_of(DType t) {
  return t == DType::u8 ? 1 : t == DType::i16 ? 2 : (t == DType::f32 || t == DType::i32) ? 4 : 8;
}

}  // namespace medsynth
