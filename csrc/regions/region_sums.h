// region_sums: integer sums over the regions of label images, whole or cut in two.
//
// Columns of a region's row: area, sum of y, of x, of q, of q y, of q x, largest q, first row, first column, one past
// the last row and column. A region k (label k + 1) whose cut is 0 (by a line of constant y) or 1 (constant x) has its
// pixels before the centroid in row 2k and the others in row 2k + 1; one with another cut is all in row 2k. Labels
// beyond the table are left out.
#pragma once
#include "../common/isa.h"
#include "../common/types.h"

namespace medsynth {

constexpr int64_t kRegionColumns = 11;

struct RegionSumsParams {
  const int32_t* labels;  // (count, height, width)
  const uint8_t* q;       // (count, height, width)
  const int64_t* cut;     // (count, regions, 4): which way, area, sum of y, of x; null: nothing is cut
  int64_t* table;         // (count, rows, kRegionColumns)
  int64_t count, height, width, regions;

  MEDSYNTH_HD int64_t rows() const { return cut == nullptr ? regions : 2 * regions; }
};

MEDSYNTH_DECLARE_CPU(region_sums, RegionSumsParams)
void region_sums_cuda(const RegionSumsParams& p, void* stream);

}  // namespace medsynth
