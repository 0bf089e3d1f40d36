#include "rand_fill.h"

#include <torch/csrc/stable/library.h>

#include "../common/check.h"
#include "../common/cuda_stream.h"
#include "../common/grid_door.h"

namespace medsynth {
namespace {

void run(RandFillParams p, Tensor& out, int64_t seed, int64_t sample_offset, int64_t stream,
         const std::vector<int64_t>& index_shape, const std::vector<int64_t>& index_origin) {
  STD_TORCH_CHECK(out.is_contiguous(), "out must be contiguous");
  p.grid = index_grid_of(out, 2, "out", index_shape, index_origin);
  p.batch = out.size(0);
  p.channels = out.size(1);
  STD_TORCH_CHECK(p.channels <= 256, "at most 256 channels, got ", p.channels);
  p.seed = static_cast<uint64_t>(seed);
  p.sample_offset = static_cast<uint32_t>(sample_offset);
  p.stream = static_cast<uint32_t>(stream);
  if (out.numel() == 0) return;
  p.out = out.mutable_data_ptr();
#ifdef MEDSYNTH_WITH_CUDA
  if (on_cuda(out)) {
    const CudaScope scope(out.get_device());
    rand_fill_cuda(p, scope.stream);
    return;
  }
#endif
  rand_fill_cpu(p);
}

void rand_normal_out(int64_t seed, int64_t sample_offset, int64_t stream, std::vector<int64_t> index_shape,
                     std::vector<int64_t> index_origin, Tensor out) {
  RandFillParams p{};
  p.kind = RandKind::normal;
  p.dtype = float_dtype(out, "out");
  run(p, out, seed, sample_offset, stream, index_shape, index_origin);
}

void rand_uniform_out(double low, double high, int64_t seed, int64_t sample_offset, int64_t stream,
                      std::vector<int64_t> index_shape, std::vector<int64_t> index_origin, Tensor out) {
  RandFillParams p{};
  p.kind = RandKind::uniform;
  p.dtype = float_dtype(out, "out");
  p.low = low;
  p.high = high;
  run(p, out, seed, sample_offset, stream, index_shape, index_origin);
}

void rand_int_out(int64_t n, int64_t seed, int64_t sample_offset, int64_t stream, std::vector<int64_t> index_shape,
                  std::vector<int64_t> index_origin, Tensor out) {
  STD_TORCH_CHECK(n >= 1 && n <= int64_t{1} << 32, "n must be in [1, 2**32], got ", n);
  RandFillParams p{};
  p.kind = RandKind::integer;
  p.dtype = label_dtype(out, "out");
  p.n = static_cast<uint64_t>(n);
  run(p, out, seed, sample_offset, stream, index_shape, index_origin);
}

}  // namespace
}  // namespace medsynth

STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, CPU, m) {
  m.impl("rand_int_out", TORCH_BOX(&medsynth::rand_int_out));
  m.impl("rand_normal_out", TORCH_BOX(&medsynth::rand_normal_out));
  m.impl("rand_uniform_out", TORCH_BOX(&medsynth::rand_uniform_out));
}
#ifdef MEDSYNTH_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, CUDA, m) {
  m.impl("rand_int_out", TORCH_BOX(&medsynth::rand_int_out));
  m.impl("rand_normal_out", TORCH_BOX(&medsynth::rand_normal_out));
  m.impl("rand_uniform_out", TORCH_BOX(&medsynth::rand_uniform_out));
}
#endif
