#pragma once
#include "../common/elementary.h"
#include "heatmap_moments.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

// Places of (a, b) and (a, b, c), sorted, in the packed sums.
MEDSYNTH_HD int moment_pair(int a, int b) { return a * (5 - a) / 2 + b; }
MEDSYNTH_HD int moment_triple(int a, int b, int c) { return (a == 0 ? 0 : a == 1 ? 3 : 4) + moment_pair(b, c); }

MEDSYNTH_HD int sorted_pair(int a, int b) { return a < b ? moment_pair(a, b) : moment_pair(b, a); }

MEDSYNTH_HD int sorted_triple(int a, int b, int c) {
  const int low = a < b ? (a < c ? a : c) : (b < c ? b : c), high = a > b ? (a > c ? a : c) : (b > c ? b : c);
  return moment_triple(low, a + b + c - low - high, high);
}

MEDSYNTH_HD void clear(MomentSums& s) {
  s.most = -INFINITY;
  s.reference = -1;
  s.s0 = 0;
  for (double& v : s.s1) v = 0;
  for (double& v : s.s2) v = 0;
  for (double& v : s.s3) v = 0;
}

// Weight of a voxel by the linear rule; NaN stays.
template <class T>
MEDSYNTH_HD T linear_weight(T h, T threshold) {
  return h < threshold || h <= T{0} ? T{0} : h;
}

// Adds a row at (z, y) from the reference, given its sums of w x^k.
MEDSYNTH_HD void add_row(MomentSums& s, double z, double y, const double (&row)[4], bool third) {
  const double c[3] = {z, y, 1};
  s.s0 += row[0];
  for (int a = 0; a < 3; ++a) {
    s.s1[a] += c[a] * row[a == 2];
    for (int b = a; b < 3; ++b) {
      s.s2[moment_pair(a, b)] += c[a] * c[b] * row[(a == 2) + (b == 2)];
      if (!third) continue;
      for (int d = b; d < 3; ++d) {
        s.s3[moment_triple(a, b, d)] += c[a] * c[b] * c[d] * row[(a == 2) + (b == 2) + (d == 2)];
      }
    }
  }
}

// Adds the sums of another piece: `scale` times, its reference at `d` from this one's.
MEDSYNTH_HD void add_piece(MomentSums& s, const MomentSums& o, double scale, const double (&d)[3]) {
  s.s0 += scale * o.s0;
  for (int a = 0; a < 3; ++a) {
    s.s1[a] += scale * (o.s1[a] + d[a] * o.s0);
    for (int b = a; b < 3; ++b) {
      s.s2[moment_pair(a, b)] +=
          scale * (o.s2[moment_pair(a, b)] + d[a] * o.s1[b] + d[b] * o.s1[a] + d[a] * d[b] * o.s0);
      for (int c = b; c < 3; ++c) {
        const double squares =
            d[a] * o.s2[moment_pair(b, c)] + d[b] * o.s2[moment_pair(a, c)] + d[c] * o.s2[moment_pair(a, b)];
        const double firsts = d[a] * d[b] * o.s1[c] + d[a] * d[c] * o.s1[b] + d[b] * d[c] * o.s1[a];
        s.s3[moment_triple(a, b, c)] +=
            scale * (o.s3[moment_triple(a, b, c)] + squares + firsts + d[a] * d[b] * d[c] * o.s0);
      }
    }
  }
}

MEDSYNTH_HD void voxel_of(const HeatmapMomentsParams& p, int64_t index, int64_t (&r)[3]) {
  r[2] = index % p.n[2];
  r[1] = index / p.n[2] % p.n[1];
  r[0] = index / p.n[2] / p.n[1];
}

// The box that counts when the largest voxel is at r, half open.
MEDSYNTH_HD void moment_box(const HeatmapMomentsParams& p, const int64_t (&r)[3], int64_t (&first)[3],
                            int64_t (&last)[3]) {
  for (int d = 0; d < 3; ++d) {
    first[d] = p.window == 0 || r[d] < p.window ? 0 : r[d] - p.window;
    last[d] = p.window == 0 || p.n[d] - r[d] <= p.window ? p.n[d] : r[d] + p.window + 1;
  }
}

// Whether the map had moments.
MEDSYNTH_HD bool state_known(const HeatmapMomentsParams& p, const double* state) {
  return state[2] >= 0 && state[2] < static_cast<double>(p.volume());
}

// Puts the pieces of a map together and writes its moments; part(i) gives piece i.
template <class Part>
MEDSYNTH_HD void finish_moments(const HeatmapMomentsParams& p, int64_t map, int64_t pieces, Part part) {
  MomentSums s;
  clear(s);
  bool known = true;
  for (int64_t i = 0; i < pieces; ++i) {
    const MomentSums& o = part(i);
    known = known && o.most == o.most;
    if (o.reference >= 0 && (s.reference < 0 || o.most > s.most)) {
      s.most = o.most;
      s.reference = o.reference;
    }
  }
  const bool softmax = p.weights == MomentWeights::softmax;
  known = known && s.reference >= 0 && (!softmax || s.most - s.most == 0);
  int64_t r[3] = {0, 0, 0};
  if (known) {
    voxel_of(p, s.reference, r);
    for (int64_t i = 0; i < pieces; ++i) {
      const MomentSums& o = part(i);
      if (o.reference < 0 || (softmax && !(o.most > static_cast<double>(-INFINITY)))) continue;
      int64_t q[3];
      voxel_of(p, o.reference, q);
      const double d[3] = {static_cast<double>(q[0] - r[0]), static_cast<double>(q[1] - r[1]),
                           static_cast<double>(q[2] - r[2])};
      const double behind = p.beta * (o.most - s.most);
      add_piece(s, o, softmax ? (behind < -700 ? 0.0 : exp_of(behind)) : 1.0, d);
    }
  }
  const int pad = static_cast<int>(3 - p.axes);
  const double nothing = static_cast<double>(NAN);
  double m[3];
  for (int a = 0; a < 3; ++a) m[a] = known && s.s0 > 0 ? s.s1[a] / s.s0 : nothing;
  p.mass[map] = known ? s.s0 : nothing;
  p.state[map * kMomentState] = known ? s.most : nothing;
  p.state[map * kMomentState + 1] = known ? s.s0 : nothing;
  p.state[map * kMomentState + 2] = known ? static_cast<double>(s.reference) : -1.0;
  for (int a = pad; a < 3; ++a) {
    int64_t at = map * p.axes + a - pad;
    p.mean[at] = static_cast<double>(r[a]) + m[a];
    for (int b = pad; b < 3; ++b) {
      const int64_t at_b = at * p.axes + b - pad;
      const double ab = s.s2[sorted_pair(a, b)] / s.s0;
      p.cov[at_b] = ab - m[a] * m[b];
      if (p.third == nullptr) continue;
      for (int c = pad; c < 3; ++c) {
        const double ac = s.s2[sorted_pair(a, c)] / s.s0, bc = s.s2[sorted_pair(b, c)] / s.s0;
        p.third[at_b * p.axes + c - pad] =
            s.s3[sorted_triple(a, b, c)] / s.s0 - m[a] * bc - m[b] * ac - m[c] * ab + 2 * m[a] * m[b] * m[c];
      }
    }
  }
}

// The polynomial of the gradient along a row: a + b x + c x^2, x from the mean.
template <class T>
struct RowPolynomial {
  T a, b, c;
};

// For the row at (z, y), the factor f of the weights included.
template <class T>
MEDSYNTH_HD RowPolynomial<T> row_polynomial(const HeatmapMomentsParams& p, int64_t map, int64_t z, int64_t y) {
  const int pad = static_cast<int>(3 - p.axes);
  const double* mean = p.mean + map * p.axes;
  const double* l = p.linear + map * p.axes;
  const double* q = p.quadratic + map * p.axes * p.axes;
  const int64_t r[3] = {z, y, 0};
  const int x = 2 - pad;
  double a = p.constant[map], b = l[x];
  for (int d = pad; d < 2; ++d) {
    const int i = d - pad;
    const double v = static_cast<double>(r[d]) - mean[i];
    a += l[i] * v;
    b += (q[i * p.axes + x] + q[x * p.axes + i]) * v;
    for (int e = pad; e < 2; ++e) {
      a += q[i * p.axes + e - pad] * v * (static_cast<double>(r[e]) - mean[e - pad]);
    }
  }
  const double mass = p.state[map * kMomentState + 1];
  const double f = p.weights == MomentWeights::softmax ? p.beta / mass : 1 / mass;
  return {static_cast<T>(f * a), static_cast<T>(f * b), static_cast<T>(f * q[x * p.axes + x])};
}

// Gradient of one voxel at distance x from the mean.
template <class T>
MEDSYNTH_HD T moment_gradient(const RowPolynomial<T>& q, T x, T h, bool softmax, T most, T beta, T threshold) {
  const T poly = fma_of(fma_of(q.c, x, q.b), x, q.a);
  if (softmax) return exp_of((h - most) * beta) * poly;
  return linear_weight(h, threshold) == T{0} ? T{0} : poly;
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
