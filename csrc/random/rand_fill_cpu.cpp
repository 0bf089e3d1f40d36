#include "../common/dispatch.h"
#include "../common/normal_group.h"
#include "../common/parallel.h"
#include "rand_fill_math.h"

namespace medsynth {

namespace {

constexpr int64_t kRun = 2048;  // multiple of kGroup

void fill_words(const RandomKey& key, int64_t v, int64_t n, uint32_t* out) {
  fill_groups(v, n, out, [&](uint64_t block, int64_t count, uint32_t* to) {
    word_groups(key, block, count, to);
    for (int64_t g = 0; g < count; ++g, to += kGroup) {
      VecU w[4];
      for (int i = 0; i < 4; ++i) w[i] = load<VecU>(to + i * kLanes);
      interleave(w);
      for (int i = 0; i < 4; ++i) store(to + i * kLanes, w[i]);
    }
  });
}

void uniform_run(const RandFillParams& p, const RandomKey& key, int64_t v, int64_t n, float* out) {
  alignas(64) uint32_t words[kRun];
  fill_words(key, v, n, words);
  for (int64_t i = 0; i < n; ++i) out[i] = scaled_uniform(p, uniform_open_high(words[i]));
}

void uniform_run(const RandFillParams& p, const RandomKey& key, int64_t v, int64_t n, double* out) {
  double pair[2];
  for (int64_t i = 0; i < n; ++i) {
    if (i == 0 || ((v + i) & 1) == 0) block_uniforms(philox_block(key, static_cast<uint64_t>((v + i) >> 1)), pair);
    out[i] = scaled_uniform(p, pair[(v + i) & 1]);
  }
}

template <class L>
void integer_run(const RandFillParams& p, const RandomKey& key, int64_t v, int64_t n, L* out) {
  alignas(64) uint32_t words[kRun];
  fill_words(key, v, n, words);
  for (int64_t i = 0; i < n; ++i) out[i] = scaled_integer<L>(p, words[i]);
}

// Calls body(key, v, n, place in out) for runs of at most kRun elements.
template <class Body>
void for_each_run(const RandFillParams& p, Body body) {
  const int64_t runs = (p.grid.length + kRun - 1) / kRun, segments = p.grid.segments();
  const int64_t grain = 16384 / (p.grid.length < kRun ? p.grid.length : kRun) + 1;
  parallel_for(0, p.batch * p.channels * segments * runs, grain, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t from = item % runs * kRun, segment = item / runs % segments, plane = item / runs / segments;
      const int64_t n = from + kRun < p.grid.length ? kRun : p.grid.length - from;
      body(plane_key(p, plane), p.grid.first(segment) + from, n,
           plane * p.grid.elements() + segment * p.grid.length + from);
    }
  });
}

}  // namespace

MEDSYNTH_DEFINE_CPU(rand_fill, RandFillParams, p) {
  if (p.kind == RandKind::integer) {
    dispatch_label(p.dtype, [&](auto label) {
      using L = decltype(label);
      for_each_run(p, [&](const RandomKey& key, int64_t v, int64_t n, int64_t at) {
        integer_run(p, key, v, n, static_cast<L*>(p.out) + at);
      });
    });
    return;
  }
  dispatch_float(p.dtype, [&](auto value) {
    using T = decltype(value);
    for_each_run(p, [&](const RandomKey& key, int64_t v, int64_t n, int64_t at) {
      T* out = static_cast<T*>(p.out) + at;
      if (p.kind == RandKind::normal) {
        fill_normals(key, v, n, out);
      } else {
        uniform_run(p, key, v, n, out);
      }
    });
  });
}

}  // namespace medsynth
