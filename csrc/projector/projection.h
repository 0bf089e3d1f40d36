// ct_forward and ct_adjoint: line integrals through volumes (N, Z, Y, X) for projections (N, views, rows, cols), and
// the exact transpose of that linear map.
//
// A view is a source s (diverging) or a ray direction r (parallel), the detector's centre d, and its pixel steps u
// along a row and v along a column, all in mm; the volume has its centre at `center` and voxels of `spacing`. The ray
// of pixel (i, j) runs through d + (i - (rows - 1) / 2) v + (j - (cols - 1) / 2) u. With w its direction in voxels, its
// main axis is the largest |w_d| (ties: x before y before z), and
//   p = |w in mm| / |w_main| * sum over slices k of the main axis of (slice k, sampled where the ray crosses it).
// Joseph: the sample is linear (2-D) or bilinear (3-D) between voxel centres, zeros outside. Siddon: the slice's share
// of the ray in each voxel, so that p is the sum of exact lengths times values. Rays of a source count the slices in
// front of it.
//
// Coordinates inside the kernels count voxels from voxel floor(n / 2) of each axis, which keeps float32 small.
#pragma once
#include "../common/isa.h"
#include "../common/types.h"

namespace medsynth {

struct ProjectionParams {
  const void* in;  // volume (forward) or projections (adjoint)
  void* out;       // projections or volume
  DType dtype;     // of both
  bool diverging;  // rays start in a source
  bool siddon;     // else Joseph
  bool flat;       // one slice, one row, and all rays in the slice
  int64_t batch, views, rows, cols;
  int64_t size[3];        // voxels along x, y, z
  double spacing[3];      // mm, x y z
  double center[3];       // mm, x y z
  const double* vectors;  // (views, 12): s or r, d, u, v in mm

  MEDSYNTH_HD int64_t volume() const { return size[0] * size[1] * size[2]; }
  MEDSYNTH_HD int64_t stride(int axis) const { return axis == 0 ? 1 : axis == 1 ? size[0] : size[0] * size[1]; }
};

MEDSYNTH_DECLARE_CPU(ct_forward, ProjectionParams)
MEDSYNTH_DECLARE_CPU(ct_adjoint, ProjectionParams)
void ct_forward_cuda(const ProjectionParams& p, void* stream);
void ct_adjoint_cuda(const ProjectionParams& p, void* stream);

}  // namespace medsynth
