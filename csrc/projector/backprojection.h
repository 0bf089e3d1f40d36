// ct_backproject: every voxel sums, over the views, the projections (N, views, rows, cols) at the place that it is seen
// at, linearly interpolated with zeros outside the detector:
//   out[x] = sum over views of scale * weight * proj(col, row),   (col, row, depth) = M (x, y, z, 1), col and row over
//   depth,
// with one 3x4 matrix M and one scale per view, and weight 1 or 1 / depth^2. Views with depth <= 0 give nothing. The
// transpose spreads volumes over the detector with the same weights.
#pragma once
#include "../common/isa.h"
#include "../common/types.h"

namespace medsynth {

struct BackprojectionParams {
  const void* in;  // projections; the transpose: volumes (N, Z, Y, X)
  void* out;       // volumes; the transpose: projections
  DType dtype;     // of both
  bool weighted;   // 1 / depth^2, else 1
  int64_t batch, views, rows, cols;
  int64_t size[3];         // voxels along x, y, z
  const double* matrices;  // (views, 12), voxel indices to pixel indices
  const double* scale;     // (views)
  int64_t* sums;           // CUDA, the transpose: (N views rows cols + N)

  MEDSYNTH_HD int64_t volume() const { return size[0] * size[1] * size[2]; }
  MEDSYNTH_HD int64_t pixels() const { return rows * cols; }
};

MEDSYNTH_DECLARE_CPU(ct_backproject, BackprojectionParams)
MEDSYNTH_DECLARE_CPU(ct_backproject_transposed, BackprojectionParams)
void ct_backproject_cuda(const BackprojectionParams& p, void* stream);
void ct_backproject_transposed_cuda(const BackprojectionParams& p, void* stream);

}  // namespace medsynth
