#pragma once
#include "map_labels.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

// Whether the label has an entry; negative labels wrap to large numbers. Unknown labels read entry 0 and are reported.
template <class Label, class Element>
MEDSYNTH_HD bool map_label(const Element* table, int64_t entries, Label label, Element* out) {
  const bool known = static_cast<uint64_t>(static_cast<int64_t>(label)) < static_cast<uint64_t>(entries);
  *out = table[known ? static_cast<int64_t>(label) : 0];
  return known;
}

// Calls f(label, element) with the run-time types as compile-time types.
template <class F>
void dispatch_element(int32_t bytes, F&& f) {
  switch (bytes) {
    case 1: f(uint8_t{}); break;
    case 2: f(uint16_t{}); break;
    case 4: f(uint32_t{}); break;
    default: f(uint64_t{}); break;
  }
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
