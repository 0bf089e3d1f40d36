#include "resample.h"

#include <torch/csrc/stable/library.h>

#include <algorithm>

#include "../common/check.h"
#include "../common/cuda_stream.h"
#include "tables.h"

namespace medsynth {
namespace {

using Sizes = std::vector<int64_t>;

// The parameters of a map from tensors; tables come next.
ResampleParams params_of(const Tensor& x, const Tensor& out, const Spatial& in, const Spatial& to) {
  ResampleParams p{};
  p.x = x.const_data_ptr();
  p.out = out.mutable_data_ptr();
  p.real = float_dtype(x, "x");
  p.batch = x.size(0);
  p.channels = x.size(1);
  std::copy(in.n, in.n + 3, p.in_size);
  std::copy(to.n, to.n + 3, p.out_size);
  return p;
}

void run(ResampleParams& p, TableBlock& block, const Tensor& x) {
  if (x.numel() == 0 || p.out_size[0] * p.out_size[1] * p.out_size[2] == 0) return;
#ifdef MEDSYNTH_WITH_CUDA
  if (on_cuda(x)) {
    const CudaScope scope(x.get_device());
    Tensor tables = torch::stable::new_empty(x, {block.size()}, ScalarType::Byte);
    block.place(static_cast<const char*>(tables.const_data_ptr()));
    upload_tables(tables.mutable_data_ptr(), block.data(), block.size(), scope.stream);
    resample_cuda(p, scope.stream);
    return;
  }
#endif
  block.place(block.data());
  resample_cpu(p);
}

Sizes shape_with(const Tensor& x, const Sizes& spatial) {
  STD_TORCH_CHECK(x.dim() >= 3 && x.dim() <= 5, "x must be (B, C, *spatial), got ", shape_of(x));
  STD_TORCH_CHECK(static_cast<int64_t>(spatial.size()) == x.dim() - 2, "size must have one entry per spatial axis");
  for (int64_t n : spatial) STD_TORCH_CHECK(n >= 1 && n < (int64_t{1} << 31), "size holds ", n);
  Sizes shape{x.size(0), x.size(1)};
  shape.insert(shape.end(), spatial.begin(), spatial.end());
  return shape;
}

struct Resize {
  ResizeRule rule;
  ResampleMode mode;
  Border border;
  Sizes full, origin;  // the grid that the large side is a window of; empty: the window is the whole
  std::vector<double> scale;
  bool transpose;
};

void resize_into(Tensor x, const Sizes& size, const Resize& r, Tensor& out) {
  check_out(out, shape_with(x, size), x);
  check_same_dtype(x, "x", out, "out");
  x = torch::stable::contiguous(x);
  const Spatial in = spatial_of(x, 2, "x"), to = spatial_of(out, 2, "out");
  ResampleParams p = params_of(x, out, in, to);
  STD_TORCH_CHECK(in.voxels() > 0, "x has no voxels: ", shape_of(x));
  STD_TORCH_CHECK(r.scale.empty() || (r.scale.size() <= 3 && static_cast<int64_t>(r.scale.size()) == p.channels),
                  "scale must have one entry per channel, three at most");
  p.scaled = !r.scale.empty();
  std::copy(r.scale.begin(), r.scale.end(), p.scale);
  TableBlock block(p.real);
  uint8_t same[3];
  for (int d = 0; d < 3; ++d) {
    const int at = d - 3 + in.dims;
    const int64_t window = r.transpose ? in.n[d] : to.n[d], source = r.transpose ? to.n[d] : in.n[d];
    const int64_t full = at < 0 || r.full.empty() ? window : r.full.at(static_cast<size_t>(at));
    const int64_t origin = at < 0 || r.origin.empty() ? 0 : r.origin.at(static_cast<size_t>(at));
    Taps taps = resize_taps(source, window, full, origin, r.rule, r.mode, r.border);
    if (r.transpose) taps = transposed(taps);
    same[d] = taps.is_identity();
    block.add(&p.axis[d], {taps});
  }
  p.same = same;
  run(p, block, x);
}

Resize resize_of(int64_t rule, int64_t mode, int64_t border, std::vector<double> scale, bool transpose) {
  STD_TORCH_CHECK(rule >= 0 && rule <= 3 && mode >= 0 && mode <= 1 && border >= 0 && border <= 2,
                  "rule, mode or border is out of range");
  return {static_cast<ResizeRule>(rule),
          static_cast<ResampleMode>(mode),
          static_cast<Border>(border),
          {},
          {},
          std::move(scale),
          transpose};
}

Tensor resample_new(Tensor x, Sizes size, int64_t rule, int64_t mode, int64_t border, std::vector<double> scale) {
  Tensor out = torch::stable::new_empty(x, shape_with(x, size));
  resize_into(x, size, resize_of(rule, mode, border, scale, false), out);
  return out;
}

void resample_into(Tensor x, Sizes size, int64_t rule, int64_t mode, int64_t border, std::vector<double> scale,
                   Tensor out) {
  resize_into(x, size, resize_of(rule, mode, border, scale, false), out);
}

Tensor resample_backward(Tensor grad, Sizes size, int64_t rule, int64_t mode, int64_t border, std::vector<double> scale,
                         Sizes full, Sizes origin) {
  Resize r = resize_of(rule, mode, border, scale, true);
  const auto dims = static_cast<size_t>(grad.dim() - 2);
  STD_TORCH_CHECK((full.empty() || full.size() == dims) && (origin.empty() || origin.size() == dims),
                  "full and origin must have one entry per spatial axis");
  r.full = full;
  r.origin = origin;
  Tensor out = torch::stable::new_empty(grad, shape_with(grad, size));
  resize_into(grad, size, r, out);
  return out;
}

// Down to low[b] voxels per axis and back up.
void simulate(Tensor x, const Tensor& low_size, int64_t mode, bool transpose, Tensor& out) {
  STD_TORCH_CHECK(x.dim() >= 3 && x.dim() <= 5, "x must be (B, C, *spatial), got ", shape_of(x));
  STD_TORCH_CHECK(mode >= 0 && mode <= 1, "mode is out of range");
  const Spatial size = spatial_of(x, 2, "x");
  STD_TORCH_CHECK(low_size.scalar_type() == ScalarType::Long && !low_size.is_cuda(),
                  "low_size must be int64 on the CPU");
  check_shape(low_size, "low_size", {x.size(0), size.dims});
  check_out(out, Sizes(x.sizes().begin(), x.sizes().end()), x);
  check_same_dtype(x, "x", out, "out");
  if (x.numel() == 0) return;
  x = torch::stable::contiguous(x);
  const Tensor lows = torch::stable::contiguous(low_size);
  const int64_t* low = lows.const_data_ptr<int64_t>();
  ResampleParams p = params_of(x, out, size, size);
  TableBlock block(p.real);
  std::vector<uint8_t> same(static_cast<size_t>(3 * p.batch), 1);
  std::vector<Taps> whole, first, second;
  for (int d = 0; d < 3; ++d) {
    whole.clear();
    for (int64_t b = 0; b < p.batch; ++b) {
      const int at = d - 3 + size.dims;
      const int64_t n = size.n[d], m = at < 0 ? n : low[b * size.dims + at];
      STD_TORCH_CHECK(m >= 1 && m <= n, "low_size must lie in 1 to ", n, " on that axis, got ", m);
      Taps down = resize_taps(n, m, m, 0, ResizeRule::corner, static_cast<ResampleMode>(mode), Border::clamp);
      Taps up = resize_taps(m, n, n, 0, ResizeRule::corner, ResampleMode::linear, Border::clamp);
      if (transpose) {
        std::swap(down, up);
        down = transposed(down);
        up = transposed(up);
      }
      whole.push_back(composed(up, down));
      same[static_cast<size_t>(3 * b + d)] = m == n;
      if (d != 2) continue;
      down.rows.resize(static_cast<size_t>(n));  // all samples share one layout
      first.push_back(std::move(down));
      second.push_back(std::move(up));
      p.middle = std::max(p.middle, m);
    }
    block.add(&p.axis[d], whole);
  }
  block.add(&p.first, first);
  block.add(&p.second, second);
  p.same = same.data();
  p.same_stride = 3;
  run(p, block, x);
}

Tensor simulate_new(Tensor x, Tensor low_size, int64_t mode) {
  Tensor out = torch::stable::new_empty(x, Sizes(x.sizes().begin(), x.sizes().end()));
  simulate(x, low_size, mode, false, out);
  return out;
}

void simulate_into(Tensor x, Tensor low_size, int64_t mode, Tensor out) { simulate(x, low_size, mode, false, out); }

Tensor simulate_backward(Tensor grad, Tensor low_size, int64_t mode) {
  Tensor out = torch::stable::new_empty(grad, Sizes(grad.sizes().begin(), grad.sizes().end()));
  simulate(grad, low_size, mode, true, out);
  return out;
}

}  // namespace
}  // namespace medsynth

#define MEDSYNTH_RESAMPLE_KERNELS(m)                                               \
  m.impl("resample", TORCH_BOX(&medsynth::resample_new));                          \
  m.impl("resample_backward", TORCH_BOX(&medsynth::resample_backward));            \
  m.impl("resample_out", TORCH_BOX(&medsynth::resample_into));                     \
  m.impl("simulate_resolution", TORCH_BOX(&medsynth::simulate_new));               \
  m.impl("simulate_resolution_backward", TORCH_BOX(&medsynth::simulate_backward)); \
  m.impl("simulate_resolution_out", TORCH_BOX(&medsynth::simulate_into))

STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, CPU, m) { MEDSYNTH_RESAMPLE_KERNELS(m); }
#ifdef MEDSYNTH_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, CUDA, m) { MEDSYNTH_RESAMPLE_KERNELS(m); }
#endif
