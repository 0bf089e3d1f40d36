// Portable loops over rays, for every float type, model and geometry.
#pragma once
#include "../common/parallel.h"
#include "projection_math.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

// The projections of one ray for all volumes of the batch.
template <bool Siddon, class T>
inline void forward_ray(const ProjectionParams& p, const ViewFrame& frame, int64_t view, int64_t row, int64_t col) {
  const Ray ray = make_ray(p, frame, row, col);
  const int axis = main_axis(p, ray.w);
  const Crossings<T> c = make_crossings<T>(p, ray, axis);
  for (int64_t n = 0; n < p.batch; ++n) {
    const T* volume = static_cast<const T*>(p.in) + n * p.volume();
    T* out = static_cast<T*>(p.out) + ((n * p.views + view) * p.rows + row) * p.cols + col;
    *out = c.first < c.last ? c.length * ray_sum<Siddon>(p, c, axis, volume) : T(0);
  }
}

// Adds a ray's projection to its voxels in slices [first, last) of its main axis.
template <bool Siddon, class T>
inline void spread_ray(const ProjectionParams& p, const Crossings<T>& c, int axis, int64_t first, int64_t last, T value,
                       T* volume) {
  const int a = first_across(axis), b = second_across(axis);
  const int64_t stride_k = p.stride(axis), stride_a = p.stride(a), stride_b = p.stride(b);
  const int64_t size_a = p.size[a], size_b = p.size[b];
  for (int64_t k = c.first > first ? c.first : first; k < c.last && k < last; ++k) {
    const Stencil<T> s = stencil_at<Siddon>(p, c, axis, k);
    T* slice = volume + k * stride_k;
    const bool in_a0 = s.a0 >= 0 && s.a0 < size_a, in_a1 = s.a1 >= 0 && s.a1 < size_a;
    const auto add = [&](int64_t i, int64_t j, T w) {
      T* to = slice + i * stride_a + j * stride_b;
      *to = fma_of(w, value, *to);
    };
    if (s.b0 >= 0 && s.b0 < size_b) {
      if (in_a0) add(s.a0, s.b0, s.w00);
      if (in_a1) add(s.a1, s.b0, s.w10);
    }
    if (s.b1 >= 0 && s.b1 < size_b) {
      if (in_a0) add(s.a0, s.b1, s.w01);
      if (in_a1) add(s.a1, s.b1, s.w11);
    }
  }
}

// Adds the rays of some views with one main axis to the volume. Every thread owns slices of that axis and meets the
// rays in the order of the projections, so the sums do not depend on the number of threads. wanted(view) says which
// views take part.
template <bool Siddon, class T, class Wanted>
void spread_axis(const ProjectionParams& p, int axis, const T* proj, T* volume, Wanted wanted) {
  const int64_t pixels = p.rows * p.cols;
  parallel_for(0, p.size[axis], 16, [&](int64_t begin, int64_t end) {
    for (int64_t view = 0; view < p.views; ++view) {
      if (!wanted(view)) continue;
      const ViewFrame frame = load_view(p, view);
      for (int64_t pixel = 0; pixel < pixels; ++pixel) {
        const Ray ray = make_ray(p, frame, pixel / p.cols, pixel % p.cols);
        if (main_axis(p, ray.w) != axis) continue;
        const Crossings<T> c = make_crossings<T>(p, ray, axis);
        if (c.first < end && c.last > begin) {
          spread_ray<Siddon>(p, c, axis, begin, end, c.length * proj[view * pixels + pixel], volume);
        }
      }
    }
  });
}

// The same by Joseph's model for the views whose byte in `left` has the axis's bit.
template <class T>
void spread_left(const ProjectionParams& p, int axis, const T* proj, T* volume, const uint8_t* left) {
  bool any = false;
  for (int64_t view = 0; view < p.views; ++view) any = any || (left[view] >> axis & 1);
  if (any) spread_axis<false>(p, axis, proj, volume, [=](int64_t view) { return (left[view] >> axis & 1) != 0; });
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
