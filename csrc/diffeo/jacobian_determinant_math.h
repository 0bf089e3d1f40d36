#pragma once
#include "jacobian_determinant.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {

// One voxel of a sample: its position on each axis (the last `dims` of the three) and the distance between neighbours.
template <int kDims>
struct JacobianVoxel {
  int64_t at[kDims], size[kDims], stride[kDims], index, voxels;
};

template <int kDims>
MEDSYNTH_HD JacobianVoxel<kDims> jacobian_voxel(const JacobianParams& p, int64_t z, int64_t y, int64_t x) {
  const int64_t at[3] = {z, y, x}, stride[3] = {p.n[1] * p.n[2], p.n[2], 1};
  JacobianVoxel<kDims> v;
  for (int d = 0; d < kDims; ++d) {
    v.at[d] = at[3 - kDims + d];
    v.size[d] = p.n[3 - kDims + d];
    v.stride[d] = stride[3 - kDims + d];
  }
  v.index = (z * p.n[1] + y) * p.n[2] + x;
  v.voxels = p.n[0] * p.n[1] * p.n[2];
  return v;
}

// j[c][d] = (c == d) + d(u_c)/d(x_d); u points at the sample.
template <int kDims, class T>
MEDSYNTH_HD void jacobian_at(const T* u, const JacobianVoxel<kDims>& v, T j[kDims][kDims]) {
  MEDSYNTH_UNROLL
  for (int d = 0; d < kDims; ++d) {
    const int64_t up = v.at[d] + 1 < v.size[d] ? v.stride[d] : 0, down = v.at[d] > 0 ? v.stride[d] : 0;
    const T scale = up && down ? T(0.5) : T(1);
    MEDSYNTH_UNROLL
    for (int c = 0; c < kDims; ++c) {
      const T* at = u + c * v.voxels + v.index;
      j[c][d] = (at[up] - at[-down]) * scale + (c == d ? T(1) : T(0));
    }
  }
}

template <class T>
MEDSYNTH_HD T determinant(const T j[1][1]) {
  return j[0][0];
}
template <class T>
MEDSYNTH_HD T determinant(const T j[2][2]) {
  return j[0][0] * j[1][1] - j[0][1] * j[1][0];
}
template <class T>
MEDSYNTH_HD T determinant(const T j[3][3]) {
  return j[0][0] * (j[1][1] * j[2][2] - j[1][2] * j[2][1]) - j[0][1] * (j[1][0] * j[2][2] - j[1][2] * j[2][0]) +
         j[0][2] * (j[1][0] * j[2][1] - j[1][1] * j[2][0]);
}

// The derivative of the determinant to j[c][d].
template <class T>
MEDSYNTH_HD T cofactor(const T[1][1], int, int) {
  return T(1);
}
template <class T>
MEDSYNTH_HD T cofactor(const T j[2][2], int c, int d) {
  return c == d ? j[1 - c][1 - d] : -j[1 - c][1 - d];
}
template <class T>
MEDSYNTH_HD T cofactor(const T j[3][3], int c, int d) {
  const int c1 = (c + 1) % 3, c2 = (c + 2) % 3, d1 = (d + 1) % 3, d2 = (d + 2) % 3;
  return j[c1][d1] * j[c2][d2] - j[c1][d2] * j[c2][d1];
}

template <int kDims, class T>
MEDSYNTH_HD T jacobian_determinant_voxel(const T* u, const JacobianVoxel<kDims>& v) {
  T j[kDims][kDims];
  jacobian_at<kDims>(u, v, j);
  return determinant(j);
}

// Stage one: weighted[(c * kDims + d) * voxels + x] = g(x) * cofactor(c, d)(x).
template <int kDims, class T>
MEDSYNTH_HD void jacobian_weighted_cofactors(const T* u, T grad, const JacobianVoxel<kDims>& v, T* weighted) {
  T j[kDims][kDims];
  jacobian_at<kDims>(u, v, j);
  MEDSYNTH_UNROLL
  for (int c = 0; c < kDims; ++c) {
    MEDSYNTH_UNROLL
    for (int d = 0; d < kDims; ++d) weighted[(c * kDims + d) * v.voxels + v.index] = grad * cofactor(j, c, d);
  }
}

// Stage two: the transposed difference stencil, summed over the axes.
template <int kDims, class T>
MEDSYNTH_HD T jacobian_gather(const T* weighted, const JacobianVoxel<kDims>& v, int c) {
  T sum = T(0);
  MEDSYNTH_UNROLL
  for (int d = 0; d < kDims; ++d) {
    const int64_t i = v.at[d], last = v.size[d] - 1, s = v.stride[d];
    if (last == 0) continue;
    const T* w = weighted + (c * kDims + d) * v.voxels + v.index;
    if (i > 0) sum += (i - 1 == 0 ? T(1) : T(0.5)) * w[-s];
    if (i < last) sum -= (i + 1 == last ? T(1) : T(0.5)) * w[s];
    if (i == 0) sum -= w[0];
    if (i == last) sum += w[0];
  }
  return sum;
}

}  // namespace MEDSYNTH_ISA_NAMESPACE
}  // namespace medsynth
