#include "../common/dispatch.h"
#include "columns_avx512.h"
#include "flat_avx512.h"
#include "ray_groups.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {
namespace {

template <bool Siddon, class T>
void forward_rays(const ProjectionParams& p) {
  const int64_t lines = p.views * p.rows;
  parallel_for(0, lines, 4096 / p.cols + 1, [&](int64_t begin, int64_t end) {
    for (int64_t line = begin; line < end; ++line) {
      const ViewFrame frame = load_view(p, line / p.rows);
      for (int64_t col = 0; col < p.cols; ++col) {
        forward_ray<Siddon, T>(p, frame, line / p.rows, line % p.rows, col);
      }
    }
  });
}

template <class T>
void forward_any(const ProjectionParams& p) {
  if (p.siddon) return forward_rays<true, T>(p);
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    return p.flat ? flat_forward(p) : forward_columns(p);
  }
#endif
  forward_rays<false, T>(p);
}

}  // namespace
}  // namespace MEDSYNTH_ISA_NAMESPACE

MEDSYNTH_DEFINE_CPU(ct_forward, ProjectionParams, p) {
  dispatch_float(p.dtype, [&](auto tag) { forward_any<decltype(tag)>(p); });
}

}  // namespace medsynth
