// warp, warp_labels and affine_svf_warp share one kernel: for every voxel x of the output window
//   w = x + origin + d(x),   q = M[:, :D] w + M[:, D],   out[b, c, x] = src[b, c] sampled at q
// with d a displacement on the output's own grid or on a coarser one that is resized on the fly, or none, and M a
// matrix or none. Grids of fewer than three axes are padded with leading axes of one voxel.
//
// A location is kept as an even integer plus a small local part, so that float32 loses nothing far from the origin.
#pragma once
#include "../common/isa.h"
#include "../common/types.h"
#include "../resample/locations.h"
#include "sampling.h"

namespace medsynth {

enum class WarpMode : int32_t { linear = 0, nearest = 1, vote = 2 };

struct WarpParams {
  const void* src;  // (batch or 1, channels, *src_size)
  void* out;        // (batch, channels, *out_size), type of src
  DType src_type;   // float32, float64 or a label type
  DType real;       // float32 or float64: type of disp and of the arithmetic; that of src in linear mode
  WarpMode mode;
  Border border;
  double fill;         // value outside, for float images
  int64_t label_fill;  // the same for labels
  int32_t dims;        // spatial axes, 1 to 3
  int64_t batch, channels;
  int64_t src_stride;  // elements between samples of src, 0 when one serves all
  int64_t src_size[3], out_size[3], origin[3];
  const double* matrix;   // (batch or 1, dims, dims + 1), or null for the identity
  int64_t matrix_stride;  // elements between samples
  const void* disp;       // (batch or 1, dims, *disp_size), or null
  int64_t disp_stride;    // elements between samples
  int64_t disp_size[3];
  int64_t disp_origin[3];  // the window's first voxel in the grid that disp spans
  ResizeRule disp_rule;
  double disp_scale[3], disp_offset[3];  // location on disp's grid = (x + disp_origin) * scale + offset
};

struct WarpBackwardParams {
  WarpParams forward;   // `out` unused
  const void* grad;     // (batch, channels, *out_size)
  void* grad_src;       // (batch, channels, *src_size), or null
  void* grad_moved;     // dL/dw (batch, dims, *out_size), or null
  double* grad_matrix;  // (batch, dims, dims + 1), or null
  double* partial;      // (batch, out_size[0], 12): sums of the matrix's gradient per plane, when that is wanted
  int64_t* sums;        // CUDA: (batch * channels * voxels of src + batch), when grad_src is wanted
};

MEDSYNTH_DECLARE_CPU(warp, WarpParams)
MEDSYNTH_DECLARE_CPU(warp_backward, WarpBackwardParams)
void warp_cuda(const WarpParams& p, void* stream);
void warp_backward_cuda(const WarpBackwardParams& p, void* stream);

}  // namespace medsynth
