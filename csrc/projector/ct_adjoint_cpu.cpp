#include "../common/dispatch.h"
#include "columns_adjoint_avx512.h"
#include "flat_adjoint_avx512.h"
#include "ray_groups.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {
namespace {

template <bool Siddon, class T>
void adjoint_rays(const ProjectionParams& p, const T* proj, T* volume) {
  for (int64_t i = 0; i < p.volume(); ++i) volume[i] = T(0);
  for (int axis = 0; axis < (p.flat ? 2 : 3); ++axis) {
    spread_axis<Siddon>(p, axis, proj, volume, [](int64_t) { return true; });
  }
}

template <class T>
void adjoint_any(const ProjectionParams& p) {
  for (int64_t n = 0; n < p.batch; ++n) {
    const T* proj = static_cast<const T*>(p.in) + n * p.views * p.rows * p.cols;
    T* volume = static_cast<T*>(p.out) + n * p.volume();
    if (p.siddon) {
      adjoint_rays<true>(p, proj, volume);
      continue;
    }
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4) {
      p.flat ? flat_adjoint(p, proj, volume) : adjoint_columns(p, proj, volume);
      continue;
    }
#endif
    adjoint_rays<false>(p, proj, volume);
  }
}

}  // namespace
}  // namespace MEDSYNTH_ISA_NAMESPACE

MEDSYNTH_DEFINE_CPU(ct_adjoint, ProjectionParams, p) {
  dispatch_float(p.dtype, [&](auto tag) { adjoint_any<decltype(tag)>(p); });
}

}  // namespace medsynth
