// rotate_project: parallel-beam projections of square images (N, S, S) by turning the image and summing its columns.
//
// With the centre c = S / 2 (integer division), views k = 0..V-1 at the angles a = pi k / V, bins t and steps r in
// -c..S-1-c:
//   proj[k, t] = sum over r of I(x = t cos a + r sin a, y = -t sin a + r cos a),
// I linear between the pixels (row y + c, column x + c) and 0 outside. The adjoint is the exact transpose.
#pragma once
#include "../common/isa.h"
#include "../common/types.h"

namespace medsynth {

struct RotateParams {
  const void* in;  // images; the adjoint: projections (N, V, S)
  void* out;       // projections; the adjoint: images
  DType dtype;     // of both
  int64_t batch, views, size;

  MEDSYNTH_HD int64_t center() const { return size / 2; }
};

MEDSYNTH_DECLARE_CPU(rotate_project, RotateParams)
MEDSYNTH_DECLARE_CPU(rotate_project_adjoint, RotateParams)
void rotate_project_cuda(const RotateParams& p, void* stream);
void rotate_project_adjoint_cuda(const RotateParams& p, void* stream);

}  // namespace medsynth
