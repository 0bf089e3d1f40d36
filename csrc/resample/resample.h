// Separable linear maps on (batch, channels, *size): resize by a rule, down-and-up to a low resolution per sample, and
// the transposes of both. Each axis is a sparse matrix held as a table of taps per output; the map of a volume is one
// pass.
//   out[b, c, z, y, x] = scale[c] * sum over the taps of z, y and x of weight * x[b, c, iz, iy, ix]
#pragma once
#include "../common/isa.h"
#include "../common/types.h"
#include "locations.h"

namespace medsynth {

// The taps of one axis. Sample b's part begins at b * stride outputs (stride 0: all samples share one table).
struct AxisTable {
  const int32_t* count;  // taps of each output, 0 to width
  const int32_t* index;  // (outputs, width) input positions
  const void* weight;    // (outputs, width), type of the data
  int64_t stride;
  int32_t width;
};

struct ResampleParams {
  const void* x;  // (batch, channels, *in_size)
  void* out;      // (batch, channels, *out_size)
  DType real;
  int64_t batch, channels;
  int64_t in_size[3], out_size[3];
  AxisTable axis[3];        // the whole map of each axis
  AxisTable first, second;  // CPU: the last axis as two maps, one after the other; `first` null when it is one
  const uint8_t* same;      // CPU: (batch or 1, 3) whether an axis is the identity
  int64_t same_stride;
  int64_t middle;   // voxels between `first` and `second`
  double scale[3];  // per channel when scaled
  bool scaled;
};

MEDSYNTH_DECLARE_CPU(resample, ResampleParams)
void resample_cuda(const ResampleParams& p, void* stream);
// Copies tables to the device, in order with the stream.
void upload_tables(void* device, const void* host, int64_t bytes, void* stream);

}  // namespace medsynth
