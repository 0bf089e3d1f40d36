#include <limits>

#include "../common/cuda.h"
#include "../common/fixed_point.cuh"
#include "../common/lanes.h"
#include "warp_math.h"

namespace medsynth {
namespace {

constexpr int kThreads = 256;

MEDSYNTH_HD int64_t volume_of(const int64_t size[3]) { return size[0] * size[1] * size[2]; }

dim3 plane_grid(const WarpParams& p) {
  const int64_t planes = p.batch * p.out_size[0];
  return dim3(blocks_for(p.out_size[1] * p.out_size[2], kThreads),
              static_cast<unsigned>(planes < 65535 ? planes : 65535));
}

// The displacement of window voxel (z, y, x) of sample b, per axis (padded to three).
template <class T>
__device__ void displacement(const WarpParams& p, int64_t b, int64_t z, int64_t y, int64_t x, T d[3]) {
  d[0] = d[1] = d[2] = T(0);
  if (p.disp == nullptr) return;
  const int64_t volume = volume_of(p.disp_size);
  const T* disp = static_cast<const T*>(p.disp) + b * p.disp_stride;
  const int64_t at[3] = {z + p.disp_origin[0], y + p.disp_origin[1], x + p.disp_origin[2]};
  const int first = 3 - p.dims;
  if (p.disp_rule == ResizeRule::same) {
    const T* v = disp + (at[0] * p.disp_size[1] + at[1]) * p.disp_size[2] + at[2];
    for (int c = 0; c < p.dims; ++c) d[first + c] = v[c * volume];
    return;
  }
  AxisSample<T> s[3];
  for (int a = 0; a < 3; ++a) {
    s[a] = narrow_sample<T>(
        sample_axis<Border::clamp>(static_cast<double>(at[a]) * p.disp_scale[a] + p.disp_offset[a], p.disp_size[a]));
  }
  const int64_t sy = s[1].next * p.disp_size[2], sz = s[0].next * p.disp_size[1] * p.disp_size[2], sx = s[2].next;
  const T* v = disp + (s[0].index * p.disp_size[1] + s[1].index) * p.disp_size[2] + s[2].index;
  for (int c = 0; c < p.dims; ++c, v += volume) {
    const T a = v[0] + s[1].w1 * (v[sy] - v[0]), e = v[sx] + s[1].w1 * (v[sy + sx] - v[sx]);
    const T f = v[sz] + s[1].w1 * (v[sz + sy] - v[sz]), g = v[sz + sx] + s[1].w1 * (v[sz + sy + sx] - v[sz + sx]);
    const T low = a + s[0].w1 * (f - a), high = e + s[0].w1 * (g - e);
    d[first + c] = low + s[2].w1 * (high - low);
  }
}

template <class T>
__device__ Location<T> locate(const WarpParams& p, const Affine& a, int64_t z, int64_t y, int64_t x, const T d[3]) {
  Location<T> at;
  start_location(p, a, z, y, x, at);
  for (int i = 3 - p.dims; i < 3; ++i) {
    if (p.matrix == nullptr) {
      at.local[i] += d[i];
    } else {
      T moved = static_cast<T>(a.m[i][2]) * d[2];
      if (p.dims > 1) moved = std::fma(static_cast<T>(a.m[i][1]), d[1], moved);
      if (p.dims > 2) moved = std::fma(static_cast<T>(a.m[i][0]), d[0], moved);
      at.local[i] += moved;
    }
  }
  return at;
}

// Calls f(b, z, y, x, v, location, displacement) for the window's voxels; v is the voxel in its sample.
template <class T, class F>
__device__ void for_each_voxel(const WarpParams& p, F f) {
  const int64_t lines = p.out_size[1], width = p.out_size[2], plane_voxels = lines * width;
  for (int64_t plane = blockIdx.y; plane < p.batch * p.out_size[0]; plane += gridDim.y) {
    const int64_t b = plane / p.out_size[0], z = plane % p.out_size[0];
    const Affine a = load_affine(p, b);
    MEDSYNTH_GRID_STRIDE(v, plane_voxels) {
      const int64_t y =
          plane_voxels < (int64_t{1} << 31) ? static_cast<uint32_t>(v) / static_cast<uint32_t>(width) : v / width;
      const int64_t x = v - y * width;
      T d[3];
      displacement(p, b, z, y, x, d);
      f(b, z, y, x, z * plane_voxels + v, locate(p, a, z, y, x, d), d, a);
    }
  }
}

template <class T>
__global__ void warp_linear_kernel(WarpParams p) {
  const int64_t voxels = volume_of(p.src_size), out_voxels = volume_of(p.out_size);
  for_each_voxel<T>(
      p, [&](int64_t b, int64_t, int64_t, int64_t, int64_t v, const Location<T>& at, const T*, const Affine&) {
        const T* src = static_cast<const T*>(p.src) + b * p.src_stride;
        T* out = static_cast<T*>(p.out) + b * p.channels * out_voxels + v;
        const Cell<T> cell = cell_at(p, at);
        for (int64_t c = 0; c < p.channels; ++c)
          out[c * out_voxels] = linear_value(cell, src + c * voxels, static_cast<T>(p.fill));
      });
}

// Voxels are copied as they are, so E is any type of their size. `lost` is what a location that is no number gets.
template <class E, class T>
__global__ void warp_nearest_kernel(WarpParams p, E fill, E lost, bool mark_lost) {
  const int64_t voxels = volume_of(p.src_size), out_voxels = volume_of(p.out_size);
  for_each_voxel<T>(
      p, [&](int64_t b, int64_t, int64_t, int64_t, int64_t v, const Location<T>& at, const T*, const Affine&) {
        const E* src = static_cast<const E*>(p.src) + b * p.src_stride;
        E* out = static_cast<E*>(p.out) + b * p.channels * out_voxels + v;
        const int64_t i = nearest_element(p, at);
        const bool nan = mark_lost && is_lost(at);
        for (int64_t c = 0; c < p.channels; ++c) out[c * out_voxels] = nan ? lost : i < 0 ? fill : src[c * voxels + i];
      });
}

// Labels of any type from element `first` on, read and written as int64: one kernel serves all types.
struct Labels {
  void* data;
  DType type;
  int64_t first;

  __device__ int64_t operator[](int64_t i) const {
    switch (type) {
      case DType::u8: return static_cast<const uint8_t*>(data)[first + i];
      case DType::i16: return static_cast<const int16_t*>(data)[first + i];
      case DType::i32: return static_cast<const int32_t*>(data)[first + i];
      default: return static_cast<const int64_t*>(data)[first + i];
    }
  }

  __device__ void set(int64_t label) const {
    switch (type) {
      case DType::u8: static_cast<uint8_t*>(data)[first] = static_cast<uint8_t>(label); break;
      case DType::i16: static_cast<int16_t*>(data)[first] = static_cast<int16_t>(label); break;
      case DType::i32: static_cast<int32_t*>(data)[first] = static_cast<int32_t>(label); break;
      default: static_cast<int64_t*>(data)[first] = label; break;
    }
  }
};

template <class T>
__global__ void warp_vote_kernel(WarpParams p) {
  const int64_t voxels = volume_of(p.src_size), out_voxels = volume_of(p.out_size);
  for_each_voxel<T>(
      p, [&](int64_t b, int64_t, int64_t, int64_t, int64_t v, const Location<T>& at, const T*, const Affine&) {
        for (int64_t c = 0; c < p.channels; ++c) {
          const Labels src{const_cast<void*>(p.src), p.src_type, b * p.src_stride + c * voxels};
          const Labels out{p.out, p.src_type, (b * p.channels + c) * out_voxels + v};
          out.set(vote_label<T, int64_t>(p, at, src));
        }
      });
}

template <class E, class T>
void launch_nearest(const WarpParams& p, E fill, E lost, bool mark_lost, cudaStream_t stream) {
  MEDSYNTH_LAUNCH((warp_nearest_kernel<E, T>), plane_grid(p), kThreads, stream, p, fill, lost, mark_lost);
}

template <class T>
void launch_warp(const WarpParams& p, cudaStream_t stream) {
  if (p.mode == WarpMode::linear) {
    MEDSYNTH_LAUNCH(warp_linear_kernel<T>, plane_grid(p), kThreads, stream, p);
    return;
  }
  if (p.mode == WarpMode::vote) {
    MEDSYNTH_LAUNCH(warp_vote_kernel<T>, plane_grid(p), kThreads, stream, p);
    return;
  }
  const int64_t fill = p.label_fill;
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  switch (p.src_type) {
    case DType::f32:
      launch_nearest<int32_t, T>(p, bit_copy<int32_t>(static_cast<float>(p.fill)), bit_copy<int32_t>(kNan), true,
                                 stream);
      break;
    case DType::f64:
      launch_nearest<int64_t, T>(p, bit_copy<int64_t>(p.fill), bit_copy<int64_t>(static_cast<double>(kNan)), true,
                                 stream);
      break;
    case DType::u8: launch_nearest<uint8_t, T>(p, static_cast<uint8_t>(fill), 0, false, stream); break;
    case DType::i16: launch_nearest<int16_t, T>(p, static_cast<int16_t>(fill), 0, false, stream); break;
    case DType::i32: launch_nearest<int32_t, T>(p, static_cast<int32_t>(fill), 0, false, stream); break;
    default: launch_nearest<int64_t, T>(p, fill, 0, false, stream); break;
  }
}

// dL/dw of every voxel.
template <class T>
__global__ void moved_gradient_kernel(WarpBackwardParams p) {
  const WarpParams& f = p.forward;
  const int64_t voxels = volume_of(f.src_size), out_voxels = volume_of(f.out_size);
  for_each_voxel<T>(
      f, [&](int64_t b, int64_t, int64_t, int64_t, int64_t v, const Location<T>& at, const T*, const Affine& a) {
        const T* src = static_cast<const T*>(f.src) + b * f.src_stride;
        const T* grad = static_cast<const T*>(p.grad) + b * f.channels * out_voxels + v;
        T* moved = static_cast<T*>(p.grad_moved) + b * f.dims * out_voxels + v;
        const Cell<T> cell = cell_at(f, at);
        T gq[3] = {T(0), T(0), T(0)};
        for (int64_t c = 0; c < f.channels; ++c) {
          add_location_gradient(cell, src + c * voxels, static_cast<T>(f.fill), grad[c * out_voxels], gq);
        }
        const int first = 3 - f.dims;
        for (int c = first; c < 3; ++c) {
          T g = T(0);
          for (int d = first; d < 3; ++d) g = std::fma(static_cast<T>(a.m[d][c]), gq[d], g);
          moved[(c - first) * out_voxels] = g;
        }
      });
}

// One block per plane: the matrix's gradient summed over the plane, in a fixed order.
template <class T>
__global__ void matrix_gradient_kernel(WarpBackwardParams p) {
  const WarpParams& f = p.forward;
  const int64_t voxels = volume_of(f.src_size), out_voxels = volume_of(f.out_size);
  const int64_t width = f.out_size[2], plane_voxels = f.out_size[1] * width;
  __shared__ double shared[kThreads];
  for (int64_t plane = blockIdx.x; plane < f.batch * f.out_size[0]; plane += gridDim.x) {
    const int64_t b = plane / f.out_size[0], z = plane % f.out_size[0];
    const Affine a = load_affine(f, b);
    const T* src = static_cast<const T*>(f.src) + b * f.src_stride;
    double sums[12] = {};
    for (int64_t v = threadIdx.x; v < plane_voxels; v += kThreads) {
      const int64_t y = v / width, x = v - y * width;
      T disp[3], gq[3] = {T(0), T(0), T(0)};
      displacement(f, b, z, y, x, disp);
      const Cell<T> cell = cell_at(f, locate(f, a, z, y, x, disp));
      const T* grad = static_cast<const T*>(p.grad) + b * f.channels * out_voxels + z * plane_voxels + v;
      for (int64_t c = 0; c < f.channels; ++c) {
        add_location_gradient(cell, src + c * voxels, static_cast<T>(f.fill), grad[c * out_voxels], gq);
      }
      const double w[4] = {double(z + f.origin[0]) + double(disp[0]), double(y + f.origin[1]) + double(disp[1]),
                           double(x + f.origin[2]) + double(disp[2]), 1.0};
      for (int d = 0; d < 3; ++d) {
        for (int c = 0; c < 4; ++c) sums[4 * d + c] += double(gq[d]) * w[c];
      }
    }
    for (int i = 0; i < 12; ++i) {
      shared[threadIdx.x] = sums[i];
      __syncthreads();
      for (int half = kThreads / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
        __syncthreads();
      }
      if (threadIdx.x == 0) p.partial[12 * plane + i] = shared[0];
      __syncthreads();
    }
  }
}

__global__ void matrix_sum_kernel(WarpBackwardParams p) {
  const WarpParams& f = p.forward;
  const int first = 3 - f.dims, d = threadIdx.x / 4, c = threadIdx.x % 4;
  if (d < first || (c < first)) return;
  for (int64_t b = blockIdx.x; b < f.batch; b += gridDim.x) {
    double sum = 0.0;
    for (int64_t z = 0; z < f.out_size[0]; ++z) sum += p.partial[12 * (b * f.out_size[0] + z) + 4 * d + c];
    p.grad_matrix[(b * f.dims + d - first) * (f.dims + 1) + c - first] = sum;
  }
}

// Where the samples' largest |grad| stand, behind the sums: as the bits of a double, which order as the numbers do.
__device__ int64_t* largest_of(const WarpBackwardParams& p) {
  const WarpParams& f = p.forward;
  return p.sums + f.batch * f.channels * volume_of(f.src_size);
}

template <class T>
__global__ void largest_kernel(WarpBackwardParams p) {
  const int64_t n = p.forward.channels * volume_of(p.forward.out_size);
  for (int64_t b = blockIdx.y; b < p.forward.batch; b += gridDim.y) {
    const T* grad = static_cast<const T*>(p.grad) + b * n;
    unsigned long long most = 0;
    MEDSYNTH_GRID_STRIDE(i, n) {
      const unsigned long long bits = size_bits(static_cast<double>(grad[i]));
      most = bits > most ? bits : most;
    }
    atomicMax(reinterpret_cast<unsigned long long*>(largest_of(p) + b), most);
  }
}

template <class T>
__global__ void scatter_kernel(WarpBackwardParams p) {
  const WarpParams& f = p.forward;
  const int64_t voxels = volume_of(f.src_size), out_voxels = volume_of(f.out_size);
  const int64_t* all_largest = largest_of(p);
  const double most_bits = ldexp(1.0, fixed_shift(out_voxels));
  for_each_voxel<T>(
      f, [&](int64_t b, int64_t, int64_t, int64_t, int64_t v, const Location<T>& at, const T*, const Affine&) {
        const double largest = __longlong_as_double(all_largest[b]);
        if (is_lost(at) || !(largest > 0.0) || !isfinite(largest)) return;
        const double scale = most_bits / largest;
        const Cell<T> cell = cell_at(f, at);
        const T* grad = static_cast<const T*>(p.grad) + b * f.channels * out_voxels + v;
        for (int64_t c = 0; c < f.channels; ++c) {
          unsigned long long* to = reinterpret_cast<unsigned long long*>(p.sums + (b * f.channels + c) * voxels);
          const double g = static_cast<double>(grad[c * out_voxels]) * scale;
          for (int k = 0; k < 8; ++k) {
            const int z = k >> 2, y = (k >> 1) & 1, x = k & 1;
            const T w = (z ? cell.axis[0].w1 : cell.axis[0].w0) * (y ? cell.axis[1].w1 : cell.axis[1].w0) *
                        (x ? cell.axis[2].w1 : cell.axis[2].w0);
            if (w == T(0)) continue;
            atomicAdd(to + cell.first + z * cell.step[0] + y * cell.step[1] + x * cell.step[2],
                      static_cast<unsigned long long>(__double2ll_rn(g * static_cast<double>(w))));
          }
        }
      });
}

template <class T>
__global__ void unscale_kernel(WarpBackwardParams p) {
  const WarpParams& f = p.forward;
  const int64_t n = f.channels * volume_of(f.src_size);
  for (int64_t b = blockIdx.y; b < f.batch; b += gridDim.y) {
    const double largest = __longlong_as_double(largest_of(p)[b]);
    const double scale = ldexp(largest, -fixed_shift(volume_of(f.out_size)));
    const int64_t* from = p.sums + b * n;
    T* to = static_cast<T*>(p.grad_src) + b * n;
    MEDSYNTH_GRID_STRIDE(i, n) {
      to[i] = isfinite(largest) ? static_cast<T>(static_cast<double>(from[i]) * scale) : static_cast<T>(NAN);
    }
  }
}

template <class T>
void launch_backward(const WarpBackwardParams& p, cudaStream_t stream) {
  const WarpParams& f = p.forward;
  if (p.grad_moved != nullptr) MEDSYNTH_LAUNCH(moved_gradient_kernel<T>, plane_grid(f), kThreads, stream, p);
  if (p.grad_matrix != nullptr) {
    const int64_t planes = f.batch * f.out_size[0];
    MEDSYNTH_LAUNCH(matrix_gradient_kernel<T>, static_cast<unsigned>(planes < 65535 ? planes : 65535), kThreads, stream,
                    p);
    MEDSYNTH_LAUNCH(matrix_sum_kernel, static_cast<unsigned>(f.batch < 65535 ? f.batch : 65535), 12, stream, p);
  }
  if (p.grad_src == nullptr) return;
  const unsigned samples = static_cast<unsigned>(f.batch < 65535 ? f.batch : 65535);
  const unsigned all_blocks = blocks_for(f.channels * volume_of(f.out_size), kThreads);
  MEDSYNTH_LAUNCH(largest_kernel<T>, dim3(all_blocks < 1024 ? all_blocks : 1024, samples), kThreads, stream, p);
  MEDSYNTH_LAUNCH(scatter_kernel<T>, plane_grid(f), kThreads, stream, p);
  MEDSYNTH_LAUNCH(unscale_kernel<T>, dim3(blocks_for(f.channels * volume_of(f.src_size), kThreads), samples), kThreads,
                  stream, p);
}

}  // namespace

void warp_cuda(const WarpParams& p, void* stream) {
  if (p.real == DType::f64) {
    launch_warp<double>(p, static_cast<cudaStream_t>(stream));
  } else {
    launch_warp<float>(p, static_cast<cudaStream_t>(stream));
  }
  check_launch("warp");
}

void warp_backward_cuda(const WarpBackwardParams& p, void* stream) {
  if (p.forward.real == DType::f64) {
    launch_backward<double>(p, static_cast<cudaStream_t>(stream));
  } else {
    launch_backward<float>(p, static_cast<cudaStream_t>(stream));
  }
  check_launch("warp_backward");
}

}  // namespace medsynth
