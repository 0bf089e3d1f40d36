// One triangle of voxelize_mesh's gradient: the surface integral over it.
#pragma once
#include "voxelize_mesh_math.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

struct Force {
  double area[3];   // half the cross product of two edges
  double share[3];  // of the corners
};

// What the loss gains when the part gains the voxel; voxel counts through the output of one part.
template <class T>
MEDSYNTH_HD double pull_at(const VoxelizeBackwardParams& p, int64_t b, int64_t part, int64_t voxel) {
  const Mesh& m = p.mesh;
  const int64_t stride = m.columns() * m.depth();
  const T* grad = static_cast<const T*>(p.grad) + b * m.parts * stride + voxel;
  const double own = static_cast<double>(grad[part * stride]);
  if (p.inside == nullptr) return own;
  const uint8_t* inside = p.inside + b * m.parts * stride + voxel;
  int64_t rank = 0;
  for (; m.order[rank] != part; ++rank) {
    if (inside[m.order[rank] * stride]) return 0.0;
  }
  for (++rank; rank < m.parts; ++rank) {
    const int64_t other = m.order[rank];
    if (inside[other * stride]) return own - static_cast<double>(grad[other * stride]);
  }
  return own;
}

// The two voxels of an axis next to a place, the place moved to the nearest centre beyond the ends.
struct AxisPair {
  int64_t low;
  double upper;  // weight of low + 1

  MEDSYNTH_HD AxisPair(double q, int64_t n) {
    const double most = static_cast<double>(n - 1), at = q < 0.0 ? 0.0 : q > most ? most : q;
    low = static_cast<int64_t>(at);
    upper = at - static_cast<double>(low);
  }
};

// pull read linearly at x; 0 more than half a voxel beyond the grid.
template <class T>
MEDSYNTH_HD double sample_pull(const VoxelizeBackwardParams& p, int64_t b, int64_t part, const double x[3]) {
  const Mesh& m = p.mesh;
  for (int d = 0; d < 3; ++d) {
    if (!(x[d] >= -0.5 && x[d] < static_cast<double>(m.size[d]) - 0.5)) return 0.0;
  }
  const AxisPair i(x[0], m.size[0]), j(x[1], m.size[1]), k(x[2], m.size[2]);
  double total = 0.0;
  for (int corner = 0; corner < 8; ++corner) {
    const int di = corner >> 2, dj = (corner >> 1) & 1, dk = corner & 1;
    const double weight =
        (di ? i.upper : 1.0 - i.upper) * (dj ? j.upper : 1.0 - j.upper) * (dk ? k.upper : 1.0 - k.upper);
    if (weight == 0.0) continue;  // also what lies beyond the last voxel
    const int64_t column = (i.low + di) * m.size[1] + j.low + dj, level = k.low + dk;
    if (m.slices == nullptr) {
      total += weight * pull_at<T>(p, b, part, column * m.size[2] + level);
    } else if (m.slices[b] == level) {
      total += weight * pull_at<T>(p, b, part, column);
    }
  }
  return total;
}

MEDSYNTH_HD void area_vector(const Face& face, double area[3]) {
  const Corner *a = face.corner, *b = a + 1, *c = a + 2;
  const double ux = b->x - a->x, uy = b->y - a->y, uz = b->z - a->z;
  const double vx = c->x - a->x, vy = c->y - a->y, vz = c->z - a->z;
  area[0] = 0.5 * (uy * vz - uz * vy);
  area[1] = 0.5 * (uz * vx - ux * vz);
  area[2] = 0.5 * (ux * vy - uy * vx);
}

// Three times the signed volume between the face and the middle of the grid.
MEDSYNTH_HD double cone_volume(const Mesh& m, const Face& face) {
  double area[3];
  area_vector(face, area);
  const Corner& a = face.corner[0];
  return (a.x - 0.5 * static_cast<double>(m.size[0])) * area[0] +
         (a.y - 0.5 * static_cast<double>(m.size[1])) * area[1] +
         (a.z - 0.5 * static_cast<double>(m.size[2])) * area[2];
}

// Three points with the weights 2/3, 1/6, 1/6 of the corners.
template <class T>
MEDSYNTH_HD Force force_on(const VoxelizeBackwardParams& p, int64_t b, const Face& face, double outwards) {
  Force force{};
  area_vector(face, force.area);
  const Corner* c = face.corner;
  for (int q = 0; q < 3; ++q) {
    const Corner &near = c[q], &one = c[(q + 1) % 3], &two = c[(q + 2) % 3];
    const double x[3] = {(4 * near.x + one.x + two.x) / 6, (4 * near.y + one.y + two.y) / 6,
                         (4 * near.z + one.z + two.z) / 6};
    const double pull = outwards * sample_pull<T>(p, b, face.part, x) / 18;
    for (int corner = 0; corner < 3; ++corner) force.share[corner] += corner == q ? 4 * pull : pull;
  }
  return force;
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
