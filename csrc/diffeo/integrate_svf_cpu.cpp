#include "../common/dispatch.h"
#include "../common/workspace.h"
#include "integrate_svf.h"
#include "quad_rows.h"
#include "svf_levels.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

constexpr int64_t kStreamBytes = int64_t{24} << 20;  // a field beyond this does not stay in the last cache

template <class T>
T first_scale(const IntegrateSvfParams& p) {
  const T scale = T(1) / static_cast<T>(int64_t{1} << p.steps);
  return p.inverse ? -scale : scale;
}

template <class T>
void scaled_copy(const IntegrateSvfParams& p, const void* from) {
  const T *in = static_cast<const T*>(from), scale = first_scale<T>(p);
  T* out = static_cast<T*>(p.out);
  parallel_for(0, p.batch * p.grid.dims * p.grid.voxels(), 1 << 16, [&](int64_t b, int64_t e) {
    for (int64_t i = b; i < e; ++i) out[i] = in[i] * scale;
  });
}

template <class T>
void start_level(const Segments& segments, const T* velocity, T scale, Quad<T>* out) {
  segments.each([&](const Segments::Piece& s, int64_t) {
    pack_segment(velocity, segments.grid, s.begin, s.n, scale, out + s.begin);
  });
}

template <Border B, class T>
void next_level(const Segments& segments, const Quad<T>* from, Quad<T>* to) {
  const bool stream = segments.grid.voxels() * static_cast<int64_t>(sizeof(Quad<T>)) > kStreamBytes;
  segments.each([&](const Segments::Piece& s, int64_t) {
    step_segment<B>(from + s.begin, from, segments.grid, s.z, s.y, s.x, s.n, to + s.begin, stream);
  });
}

template <Border B, class T>
void last_level(const Segments& segments, const Quad<T>* from, T* out) {
  segments.each([&](const Segments::Piece& s, int64_t) {
    alignas(64) Quad<T> row[kSegment];
    step_segment<B>(from + s.begin, from, segments.grid, s.z, s.y, s.x, s.n, row, false);
    unpack_segment(row, segments.grid, s.begin, s.n, T(1), out);
  });
}

template <Border B, class T>
void forward(const IntegrateSvfParams& p) {
  const Segments segments(p.grid);
  const int64_t voxels = p.grid.voxels(), sample = p.grid.dims * voxels;
  const T scale = first_scale<T>(p);
  each_sample(p.batch, voxels, [&](int64_t b) {
    Quad<T>* fields = static_cast<Quad<T>*>(p.levels);
    fields = fields ? fields + b * p.steps * voxels
                    : static_cast<Quad<T>*>(workspace(0, 2 * voxels * static_cast<int64_t>(sizeof(Quad<T>))));
    const auto field = [&](int level) { return fields + (p.levels ? level : level % 2) * voxels; };
    start_level(segments, static_cast<const T*>(p.velocity) + b * sample, scale, field(0));
    for (int k = 1; k < p.steps; ++k) next_level<B>(segments, field(k - 1), field(k));
    last_level<B>(segments, field(p.steps - 1), static_cast<T*>(p.out) + b * sample);
  });
}

template <Border B, class T>
void backward(const IntegrateSvfParams& p) {
  const Segments segments(p.grid);
  const int64_t voxels = p.grid.voxels(), sample = p.grid.dims * voxels;
  const int slots = p.levels ? 0 : svf_slots(p.steps);
  const T scale = first_scale<T>(p);
  each_sample(p.batch, voxels, [&](int64_t b) {
    auto* fields = static_cast<Quad<T>*>(workspace(0, (slots + 2) * voxels * static_cast<int64_t>(sizeof(Quad<T>))));
    auto* ranges = static_cast<PlaneRange*>(workspace(1, segments.count * static_cast<int64_t>(sizeof(PlaneRange))));
    const T* velocity = static_cast<const T*>(p.velocity) + b * sample;
    Quad<T>*grad = fields + slots * voxels, *next = grad + voxels;
    const auto begin = [&] { start_level(segments, static_cast<const T*>(p.grad) + b * sample, T(1), grad); };
    const auto visit_field = [&](const Quad<T>* u) {
      segments.each([&](const Segments::Piece& s, int64_t i) {
        ranges[i] = pull_back_segment<B>(u + s.begin, u, grad + s.begin, p.grid, s.z, s.y, s.x, s.n, next + s.begin);
      });
      scatter<B>(segments, ranges, u, grad, next);
      Quad<T>* swapped = grad;
      grad = next;
      next = swapped;
    };
    if (p.levels) {
      begin();
      const Quad<T>* levels = static_cast<const Quad<T>*>(p.levels) + b * p.steps * voxels;
      for (int k = p.steps - 1; k >= 0; --k) visit_field(levels + k * voxels);
    } else {
      walk_levels(
          p.steps, [&](int slot) { start_level(segments, velocity, scale, fields + slot * voxels); },
          [&](int from, int to) { next_level<B>(segments, fields + from * voxels, fields + to * voxels); }, begin,
          [&](int slot) { visit_field(fields + slot * voxels); });
    }
    T* out = static_cast<T*>(p.out) + b * sample;
    segments.each(
        [&](const Segments::Piece& s, int64_t) { unpack_segment(grad + s.begin, p.grid, s.begin, s.n, scale, out); });
  });
}

}  // namespace MEDSYNTH_ISA_NAMESPACE

MEDSYNTH_DEFINE_CPU(integrate_svf, IntegrateSvfParams, p) {
  dispatch_float(p.dtype, [&](auto tag) {
    using T = decltype(tag);
    if (p.steps == 0) return scaled_copy<T>(p, p.velocity);
    dispatch_border(p.border, [&](auto border) { forward<decltype(border)::value, T>(p); });
  });
}

MEDSYNTH_DEFINE_CPU(integrate_svf_backward, IntegrateSvfParams, p) {
  dispatch_float(p.dtype, [&](auto tag) {
    using T = decltype(tag);
    if (p.steps == 0) return scaled_copy<T>(p, p.grad);
    dispatch_border(p.border, [&](auto border) { backward<decltype(border)::value, T>(p); });
  });
}

}  // namespace medsynth
