#include "../common/dispatch.h"
#include "../common/parallel.h"
#include "../common/workspace.h"
#include "surface_pull.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {
namespace {

// 1 or -1 per part: which side of its faces is outside.
template <class T>
void find_outwards(const Mesh& m, int64_t b, double* outwards) {
  for (int64_t part = 0; part < m.parts; ++part) outwards[part] = 0.0;
  for (int64_t f = 0; f < m.face_count; ++f) {
    Face face;
    if (load_face<T>(m, b, f, face)) outwards[face.part] += cone_volume(m, face);
  }
  for (int64_t part = 0; part < m.parts; ++part) outwards[part] = outwards[part] < 0.0 ? -1.0 : 1.0;
}

// Adds the forces on the faces to their corners.
template <class T>
void gather_forces(const Mesh& m, int64_t b, const Force* forces, double* sums, T* grad_verts) {
  for (int64_t i = 0; i < 3 * m.vertices; ++i) sums[i] = 0.0;
  for (int64_t f = 0; f < m.face_count; ++f) {
    for (int c = 0; c < 3; ++c) {
      if (forces[f].share[c] == 0.0) continue;  // also of faces that are left out
      double* sum = sums + 3 * m.faces[3 * f + c];
      for (int d = 0; d < 3; ++d) sum[d] += forces[f].share[c] * forces[f].area[d];
    }
  }
  for (int64_t i = 0; i < 3 * m.vertices; ++i) grad_verts[i] = static_cast<T>(sums[i]);
}

template <class T>
void backward(const VoxelizeBackwardParams& p) {
  const Mesh& m = p.mesh;
  double* outwards = static_cast<double*>(workspace(0, m.batch * m.parts * static_cast<int64_t>(sizeof(double))));
  Force* forces = static_cast<Force*>(workspace(1, m.batch * m.face_count * static_cast<int64_t>(sizeof(Force))));
  parallel_for(0, m.batch, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) find_outwards<T>(m, b, outwards + b * m.parts);
  });
  parallel_for(0, m.batch * m.face_count, 256, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t b = i / m.face_count;
      Face face;
      forces[i] = {};
      if (!load_face<T>(m, b, i - b * m.face_count, face)) continue;
      forces[i] = force_on<T>(p, b, face, outwards[b * m.parts + face.part]);
    }
  });
  parallel_for(0, m.batch, 1, [&](int64_t begin, int64_t end) {
    double* sums = static_cast<double*>(workspace(2, 3 * m.vertices * static_cast<int64_t>(sizeof(double))));
    for (int64_t b = begin; b < end; ++b) {
      gather_forces(m, b, forces + b * m.face_count, sums, static_cast<T*>(p.grad_verts) + b * 3 * m.vertices);
    }
  });
}

}  // namespace
}  // namespace MEDSYNTH_ISA_NAMESPACE

MEDSYNTH_DEFINE_CPU(voxelize_mesh_backward, VoxelizeBackwardParams, p) {
  dispatch_float(p.mesh.dtype, [&](auto tag) { backward<decltype(tag)>(p); });
}

}  // namespace medsynth
