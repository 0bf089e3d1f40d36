#include "../common/dispatch.h"
#include "../common/parallel.h"
#include "backprojection_avx512.h"
#include "backprojection_math.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {
namespace {

template <class T>
void backproject_voxels(const BackprojectionParams& p, const T* proj, T* volume) {
  parallel_for(0, p.size[2] * p.size[1], 1024 / p.size[0] + 1, [&](int64_t begin, int64_t end) {
    for (int64_t line = begin; line < end; ++line) {
      const double z = static_cast<double>(line / p.size[1]), y = static_cast<double>(line % p.size[1]);
      T* to = volume + line * p.size[0];
      for (int64_t x = 0; x < p.size[0]; ++x) to[x] = T(0);
      for (int64_t view = 0; view < p.views; ++view) {
        const double* m = p.matrices + 12 * view;
        const T* from = proj + view * p.pixels();
        for (int64_t x = 0; x < p.size[0]; ++x) {
          const Sighting<T> s = sighting<T>(p, m, p.scale[view], static_cast<double>(x), y, z);
          T value = T(0);
          for_each_pixel(p, s, [&](int64_t pixel, T share) { value = fma_of(share, from[pixel], value); });
          to[x] = fma_of(s.weight, value, to[x]);
        }
      }
    }
  });
}

template <class T>
void backproject_any(const BackprojectionParams& p) {
#if defined(__AVX512F__)
  const bool lines = sizeof(T) == 4 && flat_lines_fit(p), columns = sizeof(T) == 4 && !lines && columns_fit(p);
#endif
  for (int64_t n = 0; n < p.batch; ++n) {
    const T* proj = static_cast<const T*>(p.in) + n * p.views * p.pixels();
    T* volume = static_cast<T*>(p.out) + n * p.volume();
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4) {
      if (lines || columns) {
        lines ? backproject_lines(p, proj, volume) : backproject_columns(p, proj, volume);
        continue;
      }
    }
#endif
    backproject_voxels(p, proj, volume);
  }
}

// Every thread owns whole views.
template <class T>
void spread_voxels(const BackprojectionParams& p) {
  parallel_for(0, p.batch * p.views, 1, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t view = item % p.views;
      const double* m = p.matrices + 12 * view;
      const T* volume = static_cast<const T*>(p.in) + item / p.views * p.volume();
      T* proj = static_cast<T*>(p.out) + item * p.pixels();
      for (int64_t i = 0; i < p.pixels(); ++i) proj[i] = T(0);
      for (int64_t z = 0; z < p.size[2]; ++z) {
        for (int64_t y = 0; y < p.size[1]; ++y) {
          const T* from = volume + (z * p.size[1] + y) * p.size[0];
          for (int64_t x = 0; x < p.size[0]; ++x) {
            const Sighting<T> s = sighting<T>(p, m, p.scale[view], static_cast<double>(x), static_cast<double>(y),
                                              static_cast<double>(z));
            const T value = s.weight * from[x];
            for_each_pixel(p, s, [&](int64_t pixel, T share) { proj[pixel] = fma_of(share, value, proj[pixel]); });
          }
        }
      }
    }
  });
}

}  // namespace
}  // namespace MEDSYNTH_ISA_NAMESPACE

MEDSYNTH_DEFINE_CPU(ct_backproject, BackprojectionParams, p) {
  dispatch_float(p.dtype, [&](auto tag) { backproject_any<decltype(tag)>(p); });
}

MEDSYNTH_DEFINE_CPU(ct_backproject_transposed, BackprojectionParams, p) {
  dispatch_float(p.dtype, [&](auto tag) { spread_voxels<decltype(tag)>(p); });
}

}  // namespace medsynth
