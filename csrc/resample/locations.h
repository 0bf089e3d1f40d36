// Where the voxels of a resized axis lie on the axis that they come from.
//   corner         q = i * n_in / n_out
//   half_pixel     q = (i + 0.5) * n_in / n_out - 0.5
//   align_corners  q = i * (n_in - 1) / (n_out - 1), 0 when n_out = 1
#pragma once
#include <cstdint>

#include "../common/isa.h"

namespace medsynth {

enum class ResizeRule : int32_t { corner = 0, half_pixel = 1, align_corners = 2, same = 3 };

inline namespace MEDSYNTH_ISA_NAMESPACE {

MEDSYNTH_HD double resize_location(ResizeRule rule, int64_t i, int64_t n_in, int64_t n_out) {
  const double in = static_cast<double>(n_in), out = static_cast<double>(n_out), at = static_cast<double>(i);
  switch (rule) {
    case ResizeRule::corner: return at * in / out;
    case ResizeRule::half_pixel: return (at + 0.5) * in / out - 0.5;
    case ResizeRule::align_corners: return n_out > 1 ? at * (in - 1.0) / (out - 1.0) : 0.0;
    default: return at;
  }
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
