#include "../common/cuda.h"
#include "../common/dispatch.h"
#include "ortho_slice_product_math.h"

namespace medsynth {
namespace {

constexpr int kSide = kSliceTileCuda;
constexpr int kVoxels = kSide * kSide * kSide;

// A tile in the order of x; the odd row length spreads columns over the banks.
template <class T>
struct SharedTile {
  T v[kSide][kSide][kSide + 1];
};

// Threads (a, b, c), a fastest, stand for voxels (i, j, k) of a tile in three ways, so that neighbours always touch
// neighbouring memory: (j, i, k) for z, (i, k, j) for y, (k, j, i) for x.
template <class T, bool kBackward>
__global__ void __launch_bounds__(kVoxels) slice_product_kernel(OrthoSliceProductParams p) {
  __shared__ SharedTile<T> z, y;
  const int a = threadIdx.x % kSide, b = threadIdx.x / kSide % kSide, c = threadIdx.x / (kSide * kSide);
  const int64_t tiles[3] = {(p.n[0] + kSide - 1) / kSide, (p.n[1] + kSide - 1) / kSide, (p.n[2] + kSide - 1) / kSide};
  const int64_t each = tiles[0] * tiles[1] * tiles[2];
  for (int64_t t = blockIdx.x; t < p.batch * each; t += gridDim.x) {
    const int64_t r = t % each, offset = t / each * p.volume();
    const int64_t i0 = r / (tiles[1] * tiles[2]) * kSide, j0 = r / tiles[2] % tiles[1] * kSide,
                  k0 = r % tiles[2] * kSide;
    const bool in_z = i0 + b < p.n[0] && j0 + a < p.n[1] && k0 + c < p.n[2];
    const bool in_y = i0 + a < p.n[0] && j0 + c < p.n[1] && k0 + b < p.n[2];
    const bool in_x = i0 + c < p.n[0] && j0 + b < p.n[1] && k0 + a < p.n[2];
    const int64_t at_z = offset + p.at_z(i0 + b, j0 + a, k0 + c);
    const int64_t at_y = offset + p.at_y(i0 + a, j0 + c, k0 + b);
    const int64_t at_x = offset + p.at_x(i0 + c, j0 + b, k0 + a);
    if (in_z) z.v[b][a][c] = static_cast<const T*>(p.z)[at_z];
    if (in_y) y.v[a][c][b] = static_cast<const T*>(p.y)[at_y];
    __syncthreads();
    if (in_x) {
      const T x = static_cast<const T*>(p.x)[at_x];
      T &zv = z.v[c][b][a], &yv = y.v[c][b][a];
      if constexpr (kBackward) {
        T to_z, to_y, to_x;
        slice_product_grad(static_cast<const T*>(p.grad)[at_x], zv, yv, x, p.log, to_z, to_y, to_x);
        zv = to_z;
        yv = to_y;
        static_cast<T*>(p.grad_x)[at_x] = to_x;
      } else {
        static_cast<T*>(p.out)[at_x] = slice_product(zv, yv, x, p.log);
      }
    }
    __syncthreads();
    if constexpr (kBackward) {
      if (in_z) static_cast<T*>(p.grad_z)[at_z] = z.v[b][a][c];
      if (in_y) static_cast<T*>(p.grad_y)[at_y] = y.v[a][c][b];
      __syncthreads();
    }
  }
}

template <bool kBackward>
void launch(const OrthoSliceProductParams& p, void* stream, const char* what) {
  int64_t tiles = p.batch;
  for (int64_t n : p.n) tiles *= (n + kSide - 1) / kSide;
  if (tiles == 0) return;
  const auto blocks = static_cast<unsigned>(tiles < (int64_t{1} << 30) ? tiles : int64_t{1} << 30);
  dispatch_float(p.dtype, [&](auto tag) {
    MEDSYNTH_LAUNCH((slice_product_kernel<decltype(tag), kBackward>), blocks, kVoxels,
                    static_cast<cudaStream_t>(stream), p);
  });
  check_launch(what);
}

}  // namespace

void ortho_slice_product_cuda(const OrthoSliceProductParams& p, void* stream) {
  launch<false>(p, stream, "ortho_slice_product");
}

void ortho_slice_product_backward_cuda(const OrthoSliceProductParams& p, void* stream) {
  launch<true>(p, stream, "ortho_slice_product_backward");
}

}  // namespace medsynth
