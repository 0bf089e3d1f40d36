#include "gmm_sample.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "../common/cuda_stream.h"
#include "../common/workspace.h"
#include "gmm_door.h"

namespace medsynth {
namespace {

void run(GmmInputs& inputs, int64_t seed, int64_t sample_offset, int64_t stream,
         const std::vector<int64_t>& index_shape, const std::vector<int64_t>& index_origin, bool validate,
         Tensor& out) {
  GmmSampleParams p = gmm_params(inputs, seed, sample_offset, stream, index_shape, index_origin);
  check_same_dtype(inputs.means, "means", out, "out");
  check_out(out, gmm_shape(inputs.labels, p.channels), inputs.labels);
  if (p.batch * p.channels * p.grid.elements() == 0) return;
  p.out = out.mutable_data_ptr();
  std::optional<Tensor> bad;
  if (validate) bad = no_bad_label(inputs.labels);
  p.bad = bad ? bad->mutable_data_ptr<int64_t>() : nullptr;
#ifdef MEDSYNTH_WITH_CUDA
  if (on_cuda(out)) {
    const CudaScope scope(out.get_device());
    gmm_sample_cuda(p, scope.stream);
    if (bad) report_bad_label(inputs.labels, *bad);
    return;
  }
#endif
  gmm_sample_cpu(p);
  if (bad) report_bad_label(inputs.labels, *bad);
}

Tensor gmm_sample(Tensor labels, Tensor means, Tensor stds, std::optional<Tensor> lut, int64_t seed,
                  int64_t sample_offset, int64_t stream, std::vector<int64_t> index_shape,
                  std::vector<int64_t> index_origin, bool validate) {
  STD_TORCH_CHECK(labels.dim() >= 2 && means.dim() == 3, "labels must be (B, *S) and means (B, K, C)");
  Tensor out = new_output(means, gmm_shape(labels, means.size(2)));
  GmmInputs inputs{labels, means, stds, lut};
  run(inputs, seed, sample_offset, stream, index_shape, index_origin, validate, out);
  return out;
}

void gmm_sample_out(Tensor labels, Tensor means, Tensor stds, std::optional<Tensor> lut, int64_t seed,
                    int64_t sample_offset, int64_t stream, std::vector<int64_t> index_shape,
                    std::vector<int64_t> index_origin, bool validate, Tensor out) {
  GmmInputs inputs{labels, means, stds, lut};
  run(inputs, seed, sample_offset, stream, index_shape, index_origin, validate, out);
}

std::tuple<Tensor, Tensor> gmm_sample_backward(Tensor grad, Tensor labels, std::optional<Tensor> lut, int64_t classes,
                                               bool to_means, bool to_stds, int64_t seed, int64_t sample_offset,
                                               int64_t stream, std::vector<int64_t> index_shape,
                                               std::vector<int64_t> index_origin) {
  STD_TORCH_CHECK(grad.dim() == labels.dim() + 1, "grad must be (B, C, *S), got ", shape_of(grad));
  STD_TORCH_CHECK(classes >= 0 && classes < int64_t{1} << 31, "classes must fit in 32 bits");
  const int64_t channels = grad.size(1);
  check_shape(grad, "grad", gmm_shape(labels, channels));
  check_same_device(labels, "labels", grad, "grad");
  Tensor none = torch::stable::new_empty(grad, {labels.size(0), classes, channels});
  GmmInputs inputs{labels, none, none, lut};
  GmmSampleBackwardParams q{};
  q.sample = gmm_params(inputs, seed, sample_offset, stream, index_shape, index_origin);
  grad = torch::stable::contiguous(grad);
  q.grad = grad.const_data_ptr();
  Tensor grad_means = torch::stable::new_zeros(grad, {to_means ? labels.size(0) : 0, classes, channels});
  Tensor grad_stds = torch::stable::new_zeros(grad, {to_stds ? labels.size(0) : 0, classes, channels});
  const int64_t elements = q.sample.grid.elements(), planes = labels.size(0) * channels;
  if (elements * planes * classes == 0 || !(to_means || to_stds)) return {grad_means, grad_stds};
  if (to_means) q.grad_means = grad_means.mutable_data_ptr();
  if (to_stds) q.grad_stds = grad_stds.mutable_data_ptr();
  q.pieces = (elements + kGmmPiece - 1) / kGmmPiece;
#ifdef MEDSYNTH_WITH_CUDA
  if (on_cuda(grad)) {
    const CudaScope scope(grad.get_device());
    q.pieces = (elements + 1023) / 1024 < kGmmWarps ? (elements + 1023) / 1024 : kGmmWarps;
    Tensor partial = torch::stable::new_empty(grad, {planes * q.pieces * classes * 2}, ScalarType::Double);
    q.partial = partial.mutable_data_ptr<double>();
    gmm_sample_backward_cuda(q, scope.stream);
    return {grad_means, grad_stds};
  }
#endif
  q.partial =
      static_cast<double*>(workspace(2, planes * q.pieces * classes * 2 * static_cast<int64_t>(sizeof(double))));
  gmm_sample_backward_cpu(q);
  return {grad_means, grad_stds};
}

}  // namespace
}  // namespace medsynth

STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, CPU, m) {
  m.impl("gmm_sample", TORCH_BOX(&medsynth::gmm_sample));
  m.impl("gmm_sample_out", TORCH_BOX(&medsynth::gmm_sample_out));
  m.impl("gmm_sample_backward", TORCH_BOX(&medsynth::gmm_sample_backward));
}
#ifdef MEDSYNTH_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, CUDA, m) {
  m.impl("gmm_sample", TORCH_BOX(&medsynth::gmm_sample));
  m.impl("gmm_sample_out", TORCH_BOX(&medsynth::gmm_sample_out));
  m.impl("gmm_sample_backward", TORCH_BOX(&medsynth::gmm_sample_backward));
}
#endif
