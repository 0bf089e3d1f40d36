#include "../common/dispatch.h"
#include "../common/parallel.h"
#include "gmm_piece.h"
#include "synth_image_math.h"

namespace medsynth {

namespace {

// Smallest and largest value per plane, shared by the threads; NaN is passed over.
template <class T>
struct Extremes {
  T low, high;
};

template <class T>
void widen(Extremes<T>* shared, Extremes<T> found) {
  T before;
  __atomic_load(&shared->low, &before, __ATOMIC_RELAXED);
  while (found.low < before &&
         !__atomic_compare_exchange(&shared->low, &before, &found.low, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  __atomic_load(&shared->high, &before, __ATOMIC_RELAXED);
  while (found.high > before &&
         !__atomic_compare_exchange(&shared->high, &before, &found.high, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
}

// Extremes of one run: lane by lane, and of the voxels that fill no vector.
template <class T>
struct RunExtremes {
  using V = typename VecOf<T>::type;
  Extremes<V> lanes{splat<V>(static_cast<T>(INFINITY)), splat<V>(-static_cast<T>(INFINITY))};
  Extremes<T> rest{static_cast<T>(INFINITY), -static_cast<T>(INFINITY)};

  Extremes<T> total() const {
    Extremes<T> all = rest;
    for (int i = 0; i < static_cast<int>(sizeof(V) / sizeof(T)); ++i) {
      all.low = smaller(static_cast<T>(lanes.low[i]), all.low);
      all.high = larger(static_cast<T>(lanes.high[i]), all.high);
    }
    return all;
  }
};

// Limits of the values; infinite when they are not clipped.
template <class T>
struct Limits {
  T low, high;

  explicit Limits(const SynthImageParams& p)
      : low(p.clip ? static_cast<T>(p.low) : -static_cast<T>(INFINITY)),
        high(p.clip ? static_cast<T>(p.high) : static_cast<T>(INFINITY)) {}
};

// Multiplies n voxels by exp(mix(a, b, weight)) (a null: not at all), clips them and widens the extremes.
template <class T>
void shade(const Limits<T>& limits, const T* a, const T* b, T weight, T* y, int64_t n, Extremes<T>& extremes) {
  for (int64_t i = 0; i < n; ++i) {
    if (a != nullptr) y[i] *= exp_of(mix(a[i], b[i], weight));
    y[i] = smaller(limits.high, larger(limits.low, y[i]));
    extremes.low = smaller(y[i], extremes.low);
    extremes.high = larger(y[i], extremes.high);
  }
}

template <bool Bias>
void shade_vectors(const Limits<float>& limits, const float* a, const float* b, float weight, float* y, int64_t n,
                   Extremes<VecF>& extremes) {
  VecF low = extremes.low, high = extremes.high;
  const VecF w = splat<VecF>(weight), least = splat<VecF>(limits.low), most = splat<VecF>(limits.high);
  for (int64_t i = 0; i < n; i += kLanes) {
    VecF value = load<VecF>(y + i);
    if constexpr (Bias) value *= exp_of(mix(load<VecF>(a + i), load<VecF>(b + i), w));
    value = smaller(most, larger(least, value));
    store(y + i, value);
    low = smaller(value, low);
    high = larger(value, high);
  }
  extremes = {low, high};
}

void shade_row(const Limits<double>& limits, const double* a, const double* b, double weight, double* y, int64_t n,
               RunExtremes<double>& extremes) {
  shade(limits, a, b, weight, y, n, extremes.rest);
}

void shade_row(const Limits<float>& limits, const float* a, const float* b, float weight, float* y, int64_t n,
               RunExtremes<float>& extremes) {
  const int64_t whole = n - n % kLanes;
  if (a != nullptr) {
    shade_vectors<true>(limits, a, b, weight, y, whole, extremes.lanes);
    shade(limits, a + whole, b + whole, weight, y + whole, n - whole, extremes.rest);
  } else {
    shade_vectors<false>(limits, a, b, weight, y, whole, extremes.lanes);
    shade(limits, a, b, weight, y + whole, n - whole, extremes.rest);
  }
}

template <class T>
void finish_run(T* y, int64_t n, T low, T scale, bool normalise, bool with_power, T power) {
  for (int64_t i = 0; i < n; ++i) y[i] = finish(y[i], low, scale, normalise, with_power, power);
}

void finish_run(float* y, int64_t n, float low, float scale, bool normalise, bool with_power, float power) {
  const int64_t whole = n - n % kLanes;
  const VecF l = splat<VecF>(low), s = splat<VecF>(scale), e = splat<VecF>(power);
  for (int64_t i = 0; i < whole; i += kLanes) store(y + i, finish(load<VecF>(y + i), l, s, normalise, with_power, e));
  finish_run<float>(y + whole, n - whole, low, scale, normalise, with_power, power);
}

// The bias grid of every plane, drawn out along x: (B C, m0, m1, W).
template <class T>
T* bias_rows(const SynthImageParams& p, int slot) {
  const int64_t rows = p.sample.batch * p.sample.channels * p.m[0] * p.m[1], width = p.n[2];
  T* drawn = static_cast<T*>(workspace(slot, rows * width * static_cast<int64_t>(sizeof(T))));
  for (int64_t i = 0; i < width; ++i) {
    const BiasNode<T> x = bias_node<T>(p, 2, i);
    for (int64_t row = 0; row < rows; ++row) {
      const T* nodes = static_cast<const T*>(p.bias) + row * p.m[2];
      drawn[row * width + i] = mix(nodes[x.low], nodes[x.high], x.weight);
    }
  }
  return drawn;
}

// Bias rows of one depth, mixed along z when the depth changes; one per thread.
template <class T>
struct BiasSlice {
  const SynthImageParams& p;
  const T* drawn;
  T* rows;  // (m1, W)
  int64_t plane = -1, depth = -1;

  void move_to(int64_t to_plane, int64_t z) {
    if (plane == to_plane && depth == z) return;
    plane = to_plane;
    depth = z;
    const BiasNode<T> node = bias_node<T>(p, 0, z);
    const int64_t size = p.m[1] * p.n[2];
    const T* a = drawn + (plane * p.m[0] + node.low) * size;
    const T* b = drawn + (plane * p.m[0] + node.high) * size;
    for (int64_t i = 0; i < size; ++i) rows[i] = mix(a[i], b[i], node.weight);
  }
};

// Bias, clip and extremes for the voxels [x, x + n) of one plane, row by row.
template <class T>
void shade_run(const SynthImageParams& p, BiasSlice<T>& slice, int64_t plane, int64_t x, int64_t n, T* y,
               RunExtremes<T>& extremes) {
  const Limits<T> limits(p);
  if (p.bias == nullptr)
    return shade_row(limits, static_cast<const T*>(nullptr), static_cast<const T*>(nullptr), T{0}, y, n, extremes);
  const int64_t width = p.n[2];
  int64_t depth = x / width / p.n[1], row = x / width % p.n[1], from = x % width;
  for (int64_t done = 0; done < n;) {
    const int64_t count = width - from < n - done ? width - from : n - done;
    slice.move_to(plane, depth);
    const BiasNode<T> node = bias_node<T>(p, 1, row);
    shade_row(limits, slice.rows + node.low * width + from, slice.rows + node.high * width + from, node.weight,
              y + done, count, extremes);
    done += count;
    from = 0;
    if (++row == p.n[1]) {
      row = 0;
      ++depth;
    }
  }
}

template <class T, class L>
void first_pass(const SynthImageParams& p, const GaussianTables<T>& tables, const T* drawn, Extremes<T>* extremes) {
  const GmmSampleParams& s = p.sample;
  const int64_t elements = s.grid.elements(), runs = runs_per_segment(s);
  const int64_t grain = 16384 / (s.grid.length < kRun ? s.grid.length : kRun) + 1;
  parallel_for(0, s.batch * s.channels * s.grid.segments() * runs, grain, [&](int64_t first, int64_t last) {
    T* rows = static_cast<T*>(workspace(3, p.m[1] * p.n[2] * static_cast<int64_t>(sizeof(T))));
    BiasSlice<T> slice{p, drawn, rows};
    for_each_run(s, first, last, runs, [&](int64_t b, int64_t c, int64_t segment, int64_t begin, int64_t end) {
      const int64_t plane = b * s.channels + c, x = segment * s.grid.length + begin;
      T* y = static_cast<T*>(s.out) + plane * elements + x;
      gmm_run<T, L>(s, tables, b, c, segment, begin, end, y, false);
      RunExtremes<T> found;
      shade_run(p, slice, plane, x, end - begin, y, found);
      widen(extremes + plane, found.total());
    });
  });
}

template <class T>
void second_pass(const SynthImageParams& p, const Extremes<T>* extremes) {
  const GmmSampleParams& s = p.sample;
  const int64_t elements = s.grid.elements(), runs = (elements + kRun - 1) / kRun;
  parallel_for(0, s.batch * s.channels * runs, 8, [&](int64_t first, int64_t last) {
    for (int64_t item = first; item < last; ++item) {
      const int64_t plane = item / runs, x = item % runs * kRun;
      const Extremes<T> e = extremes[plane];
      const T power = p.power != nullptr ? static_cast<const T*>(p.power)[plane] : T{1};
      const T scale = T{1} / (e.high - e.low + static_cast<T>(p.eps));
      finish_run(static_cast<T*>(s.out) + plane * elements + x, x + kRun < elements ? kRun : elements - x, e.low, scale,
                 p.normalise, p.power != nullptr, power);
    }
  });
}

}  // namespace

MEDSYNTH_DEFINE_CPU(synth_image, SynthImageParams, p) {
  const GmmSampleParams& s = p.sample;
  dispatch_float(s.dtype, [&](auto value) {
    using T = decltype(value);
    const GaussianTables<T> tables(s, 0);
    const T* drawn = p.bias != nullptr ? bias_rows<T>(p, 1) : nullptr;
    const int64_t planes = s.batch * s.channels;
    auto* extremes = static_cast<Extremes<T>*>(workspace(2, planes * static_cast<int64_t>(sizeof(Extremes<T>))));
    for (int64_t i = 0; i < planes; ++i) extremes[i] = {static_cast<T>(INFINITY), -static_cast<T>(INFINITY)};
    dispatch_label(s.label_type, [&](auto label) { first_pass<T, decltype(label)>(p, tables, drawn, extremes); });
    if (p.normalise || p.power != nullptr) second_pass(p, extremes);
  });
}

}  // namespace medsynth
