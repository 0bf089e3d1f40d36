#include "../common/dispatch.h"
#include "../common/workspace.h"
#include "compose.h"
#include "quad_rows.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

template <class T>
const T* sample_at(const void* base, int64_t offset) {
  return static_cast<const T*>(base) + offset;
}

template <Border B, class T>
void compose_fields(const ComposeParams& p) {
  const Segments segments(p.grid);
  const int64_t voxels = p.grid.voxels(), sample = p.grid.dims * voxels;
  each_sample(p.batch, voxels, [&](int64_t b) {
    auto* field = static_cast<Quad<T>*>(workspace(0, voxels * static_cast<int64_t>(sizeof(Quad<T>))));
    segments.each([&](const Segments::Piece& s, int64_t) {
      pack_segment(sample_at<T>(p.u1, b * p.stride1), p.grid, s.begin, s.n, T(1), field + s.begin);
    });
    segments.each([&](const Segments::Piece& s, int64_t) {
      alignas(64) Quad<T> disp[kSegment], row[kSegment];
      pack_segment(sample_at<T>(p.u2, b * p.stride2), p.grid, s.begin, s.n, T(1), disp);
      step_segment<B>(disp, field, p.grid, s.z, s.y, s.x, s.n, row, false);
      unpack_segment(row, p.grid, s.begin, s.n, T(1), static_cast<T*>(p.out) + b * sample);
    });
  });
}

template <Border B, class T>
void compose_fields_backward(const ComposeParams& p) {
  const Segments segments(p.grid);
  const int64_t voxels = p.grid.voxels(), sample = p.grid.dims * voxels;
  each_sample(p.batch, voxels, [&](int64_t b) {
    auto* field = static_cast<Quad<T>*>(workspace(0, 4 * voxels * static_cast<int64_t>(sizeof(Quad<T>))));
    auto* ranges = static_cast<PlaneRange*>(workspace(1, segments.count * static_cast<int64_t>(sizeof(PlaneRange))));
    Quad<T>*disp = field + voxels, *grad = disp + voxels, *spread = grad + voxels;
    segments.each([&](const Segments::Piece& s, int64_t) {
      pack_segment(sample_at<T>(p.u1, b * p.stride1), p.grid, s.begin, s.n, T(1), field + s.begin);
      pack_segment(sample_at<T>(p.u2, b * p.stride2), p.grid, s.begin, s.n, T(1), disp + s.begin);
      pack_segment(sample_at<T>(p.grad, b * sample), p.grid, s.begin, s.n, T(1), grad + s.begin);
      for (int64_t i = 0; i < s.n; ++i) spread[s.begin + i] = make_quad(T(0), T(0), T(0));
    });
    segments.each([&](const Segments::Piece& s, int64_t i) {
      alignas(64) Quad<T> row[kSegment];
      ranges[i] = pull_back_segment<B>(disp + s.begin, field, grad + s.begin, p.grid, s.z, s.y, s.x, s.n, row);
      unpack_segment(row, p.grid, s.begin, s.n, T(1), static_cast<T*>(p.grad_u2) + b * sample);
    });
    scatter<B>(segments, ranges, disp, grad, spread);
    segments.each([&](const Segments::Piece& s, int64_t) {
      unpack_segment(spread + s.begin, p.grid, s.begin, s.n, T(1), static_cast<T*>(p.grad_u1) + b * sample);
    });
  });
}

}  // namespace MEDSYNTH_ISA_NAMESPACE

MEDSYNTH_DEFINE_CPU(compose, ComposeParams, p) {
  dispatch_float(p.dtype, [&](auto tag) {
    dispatch_border(p.border, [&](auto border) { compose_fields<decltype(border)::value, decltype(tag)>(p); });
  });
}

MEDSYNTH_DEFINE_CPU(compose_backward, ComposeParams, p) {
  dispatch_float(p.dtype, [&](auto tag) {
    dispatch_border(p.border, [&](auto border) { compose_fields_backward<decltype(border)::value, decltype(tag)>(p); });
  });
}

}  // namespace medsynth
