// voxelize_mesh: which voxels lie inside the closed parts of triangle meshes, and what stands for its gradient.
//
// Every column of voxels (i, j) runs along the last axis at (i + 1.3e-4, j + 2.1e-4), so that it misses the edges of
// regular meshes. A triangle whose projection it meets toggles the voxel ceil(z) of its part, z the height of the
// crossing; a voxel is inside where the number of toggles up to it is odd. Whether a column meets a triangle is decided
// edge by edge, in float64, from the edge's lower end, so neighbouring triangles agree to the last bit: in a closed
// mesh no column stays open, whatever the rounding. With an order of the parts every voxel belongs to the first part
// that has it.
//
// The gradient is the surface integral (1/3) sum over three points x of phi_v(x) pull(x) n of every face: n half the
// cross product of two edges, outwards by the sign of the part's volume; pull the gradient of the occupancy, read
// linearly, constant for half a voxel beyond the grid and 0 from there. Where parts are ordered, pull is 0 where an
// earlier part has the voxel, and else less by the gradient of the part that would lose the voxel.
#pragma once
#include "../common/isa.h"
#include "../common/types.h"

namespace medsynth {

constexpr int64_t kOrderedParts = 256;  // the most that can be ordered

struct Mesh {
  const void* verts;      // (batch, vertices, 3), in voxels along the axes of the grid
  const int64_t* faces;   // (face_count, 3); a face that names no vertex is left out, as one with a vertex not finite
  const int64_t* part;    // (face_count), null: all of part 0
  const int64_t* slices;  // (batch) places along the last axis, null: whole volumes
  DType dtype;            // of verts
  int64_t batch, vertices, face_count, parts;
  int64_t size[3];
  bool ordered;
  uint8_t order[kOrderedParts];  // parts, the first to have a voxel keeps it

  MEDSYNTH_HD int64_t columns() const { return size[0] * size[1]; }
  MEDSYNTH_HD int64_t depth() const { return slices == nullptr ? size[2] : 1; }  // of the output
  // Words of 64 bits for the toggles of a column, with one bit beyond its end.
  MEDSYNTH_HD int64_t words() const { return size[2] / 64 + 1; }
  MEDSYNTH_HD int64_t ranked(int64_t rank) const { return ordered ? order[rank] : rank; }
};

struct VoxelizeParams {
  Mesh mesh;
  void* out;          // (batch, parts, *size), or (batch, parts, size[0], size[1]) of slices: 0 or 1
  DType out_dtype;    // u8, f32 or f64
  int64_t* open;      // (batch, parts), zeros: receives the number of columns with an odd number of crossings
  uint64_t* toggles;  // CUDA: zeros, one per word of every column of every part; of slices one per column
};

struct VoxelizeBackwardParams {
  Mesh mesh;
  const void* grad;       // like the output, dtype of verts
  const uint8_t* inside;  // the same shape: voxels of every part without order; null where nothing is ordered
  void* grad_verts;       // (batch, vertices, 3)
  double* forces;         // CUDA: (batch, face_count, 6), area vector and what its three corners get of it
  double* volumes;        // CUDA: (batch, parts)
  int64_t* sums;          // CUDA: zeros, (batch, vertices, 3) and then (batch) for the largest force
};

MEDSYNTH_DECLARE_CPU(voxelize_mesh, VoxelizeParams)
MEDSYNTH_DECLARE_CPU(voxelize_mesh_backward, VoxelizeBackwardParams)
void voxelize_mesh_cuda(const VoxelizeParams& p, void* stream);
void voxelize_mesh_backward_cuda(const VoxelizeBackwardParams& p, void* stream);

}  // namespace medsynth
