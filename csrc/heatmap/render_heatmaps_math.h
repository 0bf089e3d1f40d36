#pragma once
#include "../common/elementary.h"
#include "render_heatmaps.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

// Factor of one axis at distance z sigma.
template <class F>
MEDSYNTH_HD F render_factor(F z) {
  return exp_of(splat<F>(-0.5f) * z * z);
}

// First voxel of [0, n] with r >= edge, whatever the number.
template <class T>
MEDSYNTH_HD int64_t voxel_from(T edge, int64_t n) {
  if (!(edge > T{0})) return 0;
  return edge < static_cast<T>(n) ? static_cast<int64_t>(ceil(edge)) : n;
}

// One point, padded to three axes.
template <class T>
struct RenderPoint {
  T at[3], sigma[3], amplitude;
  int64_t first[3], last[3];  // box, half open

  MEDSYNTH_HD bool covers(const int64_t (&r)[3]) const {
    return r[0] >= first[0] && r[0] < last[0] && r[1] >= first[1] && r[1] < last[1] && r[2] >= first[2] &&
           r[2] < last[2];
  }
  MEDSYNTH_HD bool nowhere() const { return first[0] >= last[0] || first[1] >= last[1] || first[2] >= last[2]; }
  MEDSYNTH_HD T distance(int d, int64_t r) const { return static_cast<T>(r) - at[d]; }
  MEDSYNTH_HD T factor(int d, int64_t r) const { return render_factor(distance(d, r) / sigma[d]); }
  // Inside the box.
  MEDSYNTH_HD T value(const int64_t (&r)[3]) const {
    return amplitude * (factor(0, r[0]) * factor(1, r[1])) * factor(2, r[2]);
  }
};

// Point i; an empty box for one that contributes nothing or does not exist.
template <class T>
MEDSYNTH_HD RenderPoint<T> render_point(const RenderHeatmapsParams& p, int64_t i) {
  RenderPoint<T> q{};
  if (i < 0) return q;
  q.amplitude = static_cast<const T*>(p.amplitude)[i];
  bool known = p.sum || q.amplitude > T{0};
  for (int d = 0; d < 3; ++d) {
    const int64_t axis = d - (3 - p.axes);
    q.at[d] = T{0};
    q.sigma[d] = T{1};
    q.first[d] = 0;
    q.last[d] = 1;
    if (axis < 0) continue;
    const T at = static_cast<const T*>(p.points)[i * p.axes + axis];
    const T sigma = static_cast<const T*>(p.sigma)[i * p.axes + axis];
    const T half = static_cast<const T*>(p.half)[i * p.axes + axis];
    known = known && at - at == T{0} && sigma > T{0} && half >= T{0};
    q.at[d] = at;
    q.sigma[d] = sigma;
    // Rounding in at -+ half may move an edge by one voxel; the distances themselves decide.
    int64_t first = voxel_from(at - half, p.n[d]), last = voxel_from(at + half, p.n[d]);
    while (first > 0 && at - static_cast<T>(first - 1) <= half) --first;
    while (first < p.n[d] && at - static_cast<T>(first) > half) ++first;
    while (last < p.n[d] && static_cast<T>(last) - at <= half) ++last;
    while (last > 0 && static_cast<T>(last - 1) - at > half) --last;
    q.first[d] = first;
    q.last[d] = last;
  }
  if (!known) q.last[0] = q.first[0];
  return q;
}

// The points of a map: slots [begin, end) of order.
MEDSYNTH_HD void render_slots(const RenderHeatmapsParams& p, int64_t map, int64_t& begin, int64_t& end) {
  begin = map;
  end = map + 1;
  if (p.offsets != nullptr) {
    begin = p.offsets[map];
    end = p.offsets[map + 1];
    begin = begin < 0 ? 0 : begin;
    end = end > p.count ? p.count : end;
  }
}

// The point in a slot, -1 for an entry that is no point.
MEDSYNTH_HD int64_t render_index(const RenderHeatmapsParams& p, int64_t slot) {
  const int64_t i = p.order == nullptr ? slot : p.order[slot];
  return i >= 0 && i < p.count ? i : -1;
}

// The map whose points hold this slot, or -1.
MEDSYNTH_HD int64_t render_map_of(const RenderHeatmapsParams& p, int64_t slot) {
  if (p.offsets == nullptr) return slot;
  if (p.maps == 0 || slot < p.offsets[0] || slot >= p.offsets[p.maps]) return -1;
  int64_t low = 0, high = p.maps;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (p.offsets[middle] <= slot ? low : high) = middle;
  }
  return low;
}

// Whether the point in `slot`, with this value at r, is the one that counts there; point_at(slot) gives those of the
// map.
template <class T, class PointAt>
MEDSYNTH_HD bool render_wins(int64_t slot, int64_t begin, int64_t end, T value, const int64_t (&r)[3],
                             PointAt point_at) {
  for (int64_t other = begin; other < end; ++other) {
    if (other == slot) continue;
    const RenderPoint<T> q = point_at(other);
    if (!q.covers(r)) continue;
    const T theirs = q.value(r);
    if (other < slot ? theirs >= value : theirs > value) return false;
  }
  return true;
}

// What a point's gradients sum up over its box.
struct RenderSums {
  double amplitude = 0, first[3] = {0, 0, 0}, second[3] = {0, 0, 0};  // g e, g e (r - p), g e (r - p)^2

  template <class T>
  MEDSYNTH_HD void add(const RenderPoint<T>& q, const int64_t (&r)[3], T grad) {
    const double e = static_cast<double>(grad) * (static_cast<double>(q.factor(0, r[0]) * q.factor(1, r[1])) *
                                                  static_cast<double>(q.factor(2, r[2])));
    amplitude += e;
    for (int d = 0; d < 3; ++d) {
      const double distance = static_cast<double>(q.distance(d, r[d]));
      first[d] += e * distance;
      second[d] += e * distance * distance;
    }
  }

  template <class T>
  MEDSYNTH_HD void store(const RenderHeatmapsParams& p, const RenderPoint<T>& q, int64_t i) const {
    static_cast<T*>(p.grad_amplitude)[i] = static_cast<T>(amplitude);
    for (int d = static_cast<int>(3 - p.axes); d < 3; ++d) {
      const int64_t at = i * p.axes + d - (3 - p.axes);
      const double s = static_cast<double>(q.sigma[d]), a = static_cast<double>(q.amplitude);
      static_cast<T*>(p.grad_points)[at] = static_cast<T>(a * first[d] / (s * s));
      static_cast<T*>(p.grad_sigma)[at] = static_cast<T>(a * second[d] / (s * s * s));
    }
  }
};

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
