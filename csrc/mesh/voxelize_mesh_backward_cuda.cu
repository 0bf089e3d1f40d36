#include "../common/cuda.h"
#include "../common/dispatch.h"
#include "../common/fixed_point.cuh"
#include "surface_pull.h"

namespace medsynth {
namespace {

constexpr int kThreads = 256;

using Sum = unsigned long long;

// One block per part of a sample: its signed volume, summed in a fixed order.
template <class T>
__global__ void __launch_bounds__(kThreads) volume_kernel(VoxelizeBackwardParams p) {
  const Mesh& m = p.mesh;
  __shared__ double shared[kThreads];
  for (int64_t plane = blockIdx.x; plane < m.batch * m.parts; plane += gridDim.x) {
    const int64_t b = plane / m.parts, part = plane - b * m.parts;
    double sum = 0.0;
    for (int64_t f = threadIdx.x; f < m.face_count; f += kThreads) {
      Face face;
      if (m.part != nullptr && m.part[f] != part) continue;
      if (load_face<T>(m, b, f, face) && face.part == part) sum += cone_volume(m, face);
    }
    shared[threadIdx.x] = sum;
    __syncthreads();
    for (int half = kThreads / 2; half > 0; half /= 2) {
      if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
      __syncthreads();
    }
    if (threadIdx.x == 0) p.volumes[plane] = shared[0];
    __syncthreads();
  }
}

__device__ int64_t* largest_of(const VoxelizeBackwardParams& p) { return p.sums + p.mesh.batch * 3 * p.mesh.vertices; }

// One thread per face; the largest force of each sample scales the sums.
template <class T>
__global__ void __launch_bounds__(kThreads) force_kernel(VoxelizeBackwardParams p) {
  const Mesh& m = p.mesh;
  MEDSYNTH_GRID_STRIDE(i, m.batch * m.face_count) {
    const int64_t b = i / m.face_count;
    Face face;
    Force force{};
    if (load_face<T>(m, b, i - b * m.face_count, face)) {
      force = force_on<T>(p, b, face, p.volumes[b * m.parts + face.part] < 0.0 ? -1.0 : 1.0);
    }
    unsigned long long most = 0;
    for (int d = 0; d < 3; ++d) {
      p.forces[6 * i + d] = force.area[d];
      p.forces[6 * i + 3 + d] = force.share[d];
      for (int c = 0; c < 3; ++c) {
        const unsigned long long bits = size_bits(force.share[c] * force.area[d]);
        most = bits > most ? bits : most;
      }
    }
    if (most > 0) atomicMax(reinterpret_cast<unsigned long long*>(largest_of(p) + b), most);
  }
}

// One thread per corner of a face.
__global__ void __launch_bounds__(kThreads) add_kernel(VoxelizeBackwardParams p) {
  const Mesh& m = p.mesh;
  const int shift = fixed_shift(3 * m.face_count);
  MEDSYNTH_GRID_STRIDE(i, m.batch * m.face_count * 3) {
    const int64_t item = i / 3, b = item / m.face_count, f = item - b * m.face_count;
    const double* force = p.forces + 6 * item;
    const double share = force[3 + (i - 3 * item)];
    const double largest = __longlong_as_double(largest_of(p)[b]);
    if (share == 0.0 || !(largest > 0.0) || !isfinite(largest)) continue;  // share is 0 for faces that are left out
    const double scale = ldexp(1.0, shift) / largest;
    Sum* to = reinterpret_cast<Sum*>(p.sums + (b * m.vertices + m.faces[3 * f + (i - 3 * item)]) * 3);
    for (int d = 0; d < 3; ++d) {
      atomicAdd(to + d, static_cast<Sum>(__double2ll_rn(share * force[d] * scale)));
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) unscale_kernel(VoxelizeBackwardParams p) {
  const Mesh& m = p.mesh;
  const int shift = fixed_shift(3 * m.face_count);
  MEDSYNTH_GRID_STRIDE(i, m.batch * m.vertices * 3) {
    const double largest = __longlong_as_double(largest_of(p)[i / (3 * m.vertices)]);
    static_cast<T*>(p.grad_verts)[i] = isfinite(largest)
                                           ? static_cast<T>(static_cast<double>(p.sums[i]) * ldexp(largest, -shift))
                                           : static_cast<T>(NAN);
  }
}

}  // namespace

void voxelize_mesh_backward_cuda(const VoxelizeBackwardParams& p, void* stream) {
  const Mesh& m = p.mesh;
  const cudaStream_t s = static_cast<cudaStream_t>(stream);
  dispatch_float(m.dtype, [&](auto tag) {
    using T = decltype(tag);
    const int64_t planes = m.batch * m.parts;
    MEDSYNTH_LAUNCH(volume_kernel<T>, static_cast<unsigned>(planes < 65535 ? planes : 65535), kThreads, s, p);
    if (m.face_count > 0) {
      MEDSYNTH_LAUNCH(force_kernel<T>, blocks_for(m.batch * m.face_count, kThreads), kThreads, s, p);
      MEDSYNTH_LAUNCH(add_kernel, blocks_for(m.batch * m.face_count * 3, kThreads), kThreads, s, p);
    }
    MEDSYNTH_LAUNCH(unscale_kernel<T>, blocks_for(m.batch * m.vertices * 3, kThreads), kThreads, s, p);
  });
  check_launch("voxelize_mesh_backward");
}

}  // namespace medsynth
