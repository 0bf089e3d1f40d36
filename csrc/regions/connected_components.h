// connected_components: labels 1..n of the connected regions of every mask, in the raster order of their first voxels.
#pragma once
#include "../common/isa.h"
#include "../common/types.h"

namespace medsynth {

struct ConnectedComponentsParams {
  const uint8_t* mask;  // (count, n), not 0: foreground
  int32_t* labels;      // (count, n); on the way the index of another voxel of the region, plus one
  int64_t count;
  int64_t n[3];  // sizes, padded with leading ones to three axes
  bool full;     // neighbours share a corner; else a face

  MEDSYNTH_HD int64_t volume() const { return n[0] * n[1] * n[2]; }
};

MEDSYNTH_DECLARE_CPU(connected_components, ConnectedComponentsParams)
void connected_components_cuda(const ConnectedComponentsParams& p, void* stream);

}  // namespace medsynth
