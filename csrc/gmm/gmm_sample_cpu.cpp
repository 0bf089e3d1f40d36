#include "../common/dispatch.h"
#include "../common/parallel.h"
#include "gmm_piece.h"

namespace medsynth {

namespace {
constexpr int64_t kStreamBytes = int64_t{8} << 20;  // larger outputs bypass the cache, which could not hold them anyway
}

MEDSYNTH_DEFINE_CPU(gmm_sample, GmmSampleParams, p) {
  dispatch_float(p.dtype, [&](auto value) {
    using T = decltype(value);
    const GaussianTables<T> tables(p, 0);
    const int64_t elements = p.grid.elements(), runs = runs_per_segment(p);
    const bool stream = p.batch * p.channels * elements * static_cast<int64_t>(sizeof(T)) >= kStreamBytes;
    const int64_t grain = 16384 / (p.grid.length < kRun ? p.grid.length : kRun) + 1;
    dispatch_label(p.label_type, [&](auto label) {
      using L = decltype(label);
      parallel_for(0, p.batch * p.channels * p.grid.segments() * runs, grain, [&](int64_t first, int64_t last) {
        for_each_run(p, first, last, runs, [&](int64_t b, int64_t c, int64_t segment, int64_t begin, int64_t end) {
          T* out = static_cast<T*>(p.out) + (b * p.channels + c) * elements + segment * p.grid.length + begin;
          gmm_run<T, L>(p, tables, b, c, segment, begin, end, out, stream);
        });
      });
    });
  });
}

namespace {

// Sums of g and g n over the voxels [x0, x1) of one plane, per class: table is (classes + 1, 2), the last row for
// voxels without class. Four tables take turns, so that neighbours of one class do not wait for each other.
template <class T, class L>
void sum_piece(const GmmSampleBackwardParams& q, int64_t b, int64_t c, int64_t x0, int64_t x1,
               const int32_t* class_table, double* tables, double* result) {
  const GmmSampleParams& p = q.sample;
  const int64_t rows = 2 * (p.classes + 1), known = p.known();
  for (int64_t i = 0; i < 4 * rows; ++i) tables[i] = 0;
  alignas(64) T noise[kRun];
  const L* labels = static_cast<const L*>(p.labels) + b * p.grid.elements();
  const T* grad = static_cast<const T*>(q.grad) + (b * p.channels + c) * p.grid.elements();
  for (int64_t x = x0; x < x1;) {
    const int64_t segment = x / p.grid.length, inside = x % p.grid.length;
    int64_t n = p.grid.length - inside < x1 - x ? p.grid.length - inside : x1 - x;
    n = n < kRun ? n : kRun;
    if (q.grad_stds != nullptr) fill_normals(plane_key(p, b, c), p.grid.first(segment) + inside, n, noise);
    for (int64_t i = 0; i < n; ++i) {
      const uint64_t label = label_value(labels[x + i]);
      const int64_t k = class_table[label < static_cast<uint64_t>(known) ? label : static_cast<uint64_t>(known)];
      double* row = tables + ((x + i) & 3) * rows + 2 * k;
      const double g = grad[x + i];
      row[0] += g;
      if (q.grad_stds != nullptr) row[1] += g * noise[i];
    }
    x += n;
  }
  for (int64_t i = 0; i < 2 * p.classes; ++i) {
    result[i] = (tables[i] + tables[rows + i]) + (tables[2 * rows + i] + tables[3 * rows + i]);
  }
}

template <class T>
void add_pieces(const GmmSampleBackwardParams& q) {
  const GmmSampleParams& p = q.sample;
  const int64_t row = 2 * p.classes;
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t c = 0; c < p.channels; ++c) {
      const double* partial = q.partial + (b * p.channels + c) * q.pieces * row;
      for (int64_t k = 0; k < p.classes; ++k) {
        double of_mean = 0, of_std = 0;
        for (int64_t piece = 0; piece < q.pieces; ++piece) {
          of_mean += partial[piece * row + 2 * k];
          of_std += partial[piece * row + 2 * k + 1];
        }
        const int64_t at = (b * p.classes + k) * p.channels + c;
        if (q.grad_means != nullptr) static_cast<T*>(q.grad_means)[at] = static_cast<T>(of_mean);
        if (q.grad_stds != nullptr) static_cast<T*>(q.grad_stds)[at] = static_cast<T>(of_std);
      }
    }
  }
}

}  // namespace

MEDSYNTH_DEFINE_CPU(gmm_sample_backward, GmmSampleBackwardParams, q) {
  const GmmSampleParams& p = q.sample;
  const int64_t elements = p.grid.elements(), known = p.known();
  int32_t* class_table = static_cast<int32_t*>(workspace(0, (known + 1) * static_cast<int64_t>(sizeof(int32_t))));
  for (int64_t label = 0; label <= known; ++label) {
    const int64_t k = p.class_of(static_cast<uint64_t>(label));
    class_table[label] = static_cast<int32_t>(k < 0 ? p.classes : k);
  }
  dispatch_float(p.dtype, [&](auto value) {
    using T = decltype(value);
    dispatch_label(p.label_type, [&](auto label) {
      using L = decltype(label);
      parallel_for(0, p.batch * p.channels * q.pieces, 1, [&](int64_t first, int64_t last) {
        double* tables = static_cast<double*>(workspace(1, 8 * (p.classes + 1) * static_cast<int64_t>(sizeof(double))));
        for (int64_t item = first; item < last; ++item) {
          const int64_t plane = item / q.pieces, x0 = item % q.pieces * kGmmPiece;
          const int64_t x1 = x0 + kGmmPiece < elements ? x0 + kGmmPiece : elements;
          sum_piece<T, L>(q, plane / p.channels, plane % p.channels, x0, x1, class_table, tables,
                          q.partial + item * 2 * p.classes);
        }
      });
    });
    add_pieces<T>(q);
  });
}

}  // namespace medsynth
