#include "../common/cuda.h"
#include "resample.h"

namespace medsynth {
namespace {

template <class T>
__global__ void resample_kernel(ResampleParams p) {
  const int64_t plane_voxels = p.out_size[1] * p.out_size[2], planes = p.batch * p.channels * p.out_size[0];
  const int64_t in_plane = p.in_size[1] * p.in_size[2];
  for (int64_t plane = blockIdx.y; plane < planes; plane += gridDim.y) {
    const int64_t z = plane % p.out_size[0], bc = plane / p.out_size[0], b = bc / p.channels;
    const T* x = static_cast<const T*>(p.x) + bc * p.in_size[0] * in_plane;
    T* out = static_cast<T*>(p.out) + plane * plane_voxels;
    const T scale = p.scaled ? static_cast<T>(p.scale[bc % p.channels]) : T(1);
    const int64_t rz = b * p.axis[0].stride + z;
    const int32_t* iz = p.axis[0].index + rz * p.axis[0].width;
    const T* wz = static_cast<const T*>(p.axis[0].weight) + rz * p.axis[0].width;
    const int nz = p.axis[0].count[rz];
    MEDSYNTH_GRID_STRIDE(v, plane_voxels) {
      const int64_t row = v / p.out_size[2], column = v - row * p.out_size[2];
      const int64_t ry = b * p.axis[1].stride + row, rx = b * p.axis[2].stride + column;
      const int32_t* iy = p.axis[1].index + ry * p.axis[1].width;
      const T* wy = static_cast<const T*>(p.axis[1].weight) + ry * p.axis[1].width;
      const int32_t* ix = p.axis[2].index + rx * p.axis[2].width;
      const T* wx = static_cast<const T*>(p.axis[2].weight) + rx * p.axis[2].width;
      const int ny = p.axis[1].count[ry], nx = p.axis[2].count[rx];
      T sum = T(0);
      for (int k = 0; k < nx; ++k) {
        T column_sum = T(0);
        for (int j = 0; j < ny; ++j) {
          const T* at = x + static_cast<int64_t>(iy[j]) * p.in_size[2] + ix[k];
          T line_sum = T(0);
          for (int i = 0; i < nz; ++i) line_sum = std::fma(wz[i], at[static_cast<int64_t>(iz[i]) * in_plane], line_sum);
          column_sum = std::fma(wy[j], line_sum, column_sum);
        }
        sum = std::fma(wx[k], column_sum, sum);
      }
      out[v] = sum * scale;
    }
  }
}

template <class T>
void launch(const ResampleParams& p, cudaStream_t stream) {
  const int64_t plane_voxels = p.out_size[1] * p.out_size[2], planes = p.batch * p.channels * p.out_size[0];
  const dim3 grid(blocks_for(plane_voxels, 128), static_cast<unsigned>(planes < 65535 ? planes : 65535));
  MEDSYNTH_LAUNCH(resample_kernel<T>, grid, 128, stream, p);
  check_launch("resample");
}

}  // namespace

void resample_cuda(const ResampleParams& p, void* stream) {
  if (p.batch * p.channels * p.out_size[0] * p.out_size[1] * p.out_size[2] == 0) return;
  if (p.real == DType::f64) {
    launch<double>(p, static_cast<cudaStream_t>(stream));
  } else {
    launch<float>(p, static_cast<cudaStream_t>(stream));
  }
}

void upload_tables(void* device, const void* host, int64_t bytes, void* stream) {
  const cudaError_t e = cudaMemcpyAsync(device, host, static_cast<size_t>(bytes), cudaMemcpyHostToDevice,
                                        static_cast<cudaStream_t>(stream));
  if (e != cudaSuccess)
    throw std::runtime_error(std::string("resample: copying the tables failed: ") + cudaGetErrorString(e));
}

}  // namespace medsynth
