#pragma once
#include "region_sums.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

// What a column starts from.
MEDSYNTH_HD int64_t region_start(const RegionSumsParams& p, int64_t column) {
  return column == 7 ? p.height : column == 8 ? p.width : 0;
}

// The row of a pixel's region, -1 for none.
MEDSYNTH_HD int64_t region_row(const RegionSumsParams& p, int64_t map, int32_t label, int64_t y, int64_t x) {
  const int64_t region = static_cast<int64_t>(label) - 1;
  if (region < 0 || region >= p.regions) return -1;
  if (p.cut == nullptr) return map * p.rows() + region;
  const int64_t* cut = p.cut + (map * p.regions + region) * 4;
  const bool behind = cut[0] == 0 ? y * cut[1] >= cut[2] : cut[0] == 1 ? x * cut[1] >= cut[3] : false;
  return map * p.rows() + 2 * region + (behind ? 1 : 0);
}

// Adds a pixel by add(column, value), low(column, value) and high(column, value).
template <class Add, class Low, class High>
MEDSYNTH_HD void add_pixel(int64_t y, int64_t x, int64_t q, Add add, Low low, High high) {
  add(0, int64_t{1});
  add(1, y);
  add(2, x);
  add(3, q);
  add(4, q * y);
  add(5, q * x);
  high(6, q);
  low(7, y);
  low(8, x);
  high(9, y + 1);
  high(10, x + 1);
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
