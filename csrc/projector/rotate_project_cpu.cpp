// The angles a, 90 - a, 90 + a and 180 - a degrees read the image at the same places up to a turn and a mirror. So four
// turned copies are interleaved, and one walk through them, for a in 0..45 degrees, makes a ray of each of the four
// views. The copies are transposed: a ray walks mainly along y, and neighbours in y lie side by side in memory.
#include <cmath>

#include "../common/dispatch.h"
#include "../common/parallel.h"
#include "../common/workspace.h"
#include "rotate_project_math.h"

namespace medsynth {
inline namespace MEDSYNTH_ISA_NAMESPACE {
namespace {

constexpr int64_t kCopies = 4;
constexpr int64_t kBlock = 64;  // steps of a ray whose places are found at once

template <class T>
struct TwoPixels {
  typedef T type __attribute__((vector_size(2 * kCopies * sizeof(T))));  // four copies at y, four at y + 1
};

// Copies at (x, y) from the centre: I(x, y), I(y, -x), I(x, -y), I(y, x) for the angles a, 90 + a, 180 - a, 90 - a.
template <class T>
void fill_copies(const T* image, int64_t size, int64_t center, int64_t side, T* copies) {
  const auto at = [&](int64_t x, int64_t y) {
    const int64_t j = x + center, i = y + center;
    return j >= 0 && j < size && i >= 0 && i < size ? image[i * size + j] : T(0);
  };
  parallel_for(0, side, 16, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t x = row - center - 1;
      T* to = copies + row * side * kCopies;
      for (int64_t column = 0; column < side; ++column, to += kCopies) {
        const int64_t y = column - center - 1;
        to[0] = at(x, y);
        to[1] = at(y, -x);
        to[2] = at(x, -y);
        to[3] = at(y, x);
      }
    }
  });
}

// The views at the angles of the four copies for a = 90 degrees slot / views, -1 where there is none.
void views_of(int64_t slot, int64_t views, int64_t* view) {
  const bool even = slot % 2 == 0, matches = (views + slot) % 2 == 0;
  const bool diagonal = 2 * slot == views;  // a = 90 - a
  view[0] = even ? slot / 2 : -1;
  view[1] = matches && slot > 0 ? (views + slot) / 2 : -1;
  view[2] = even && slot > 0 && !diagonal ? views - slot / 2 : -1;
  view[3] = matches && !diagonal ? (views - slot) / 2 : -1;
}

// The steps [first, last) of the ray in which |position + r step| < reach.
void clip(double position, double step, double reach, int64_t& first, int64_t& last) {
  if (step < 1e-9) return;
  const double low = ceil((-reach - position) / step), high = floor((reach - position) / step);
  if (low > static_cast<double>(first)) first = static_cast<int64_t>(low);
  if (high < static_cast<double>(last - 1)) last = static_cast<int64_t>(high) + 1;
}

template <class T>
void sum_ray(const T* copies, int64_t side, int64_t size, double t, double cosine, double sine, T* sums) {
  using V = typename TwoPixels<T>::type;
  const int64_t center = size / 2;
  const double reach = static_cast<double>(center + 1), x0 = t * cosine, y0 = -t * sine;
  int64_t first = -center, last = size - center;
  clip(x0, sine, reach, first, last);
  clip(y0, cosine, reach, first, last);
  // Beyond the reach there are only zeros, and a place is moved there.
  const T most = static_cast<T>(2 * reach), left = static_cast<T>(x0 + reach), top = static_cast<T>(y0 + reach);
  const T dx = static_cast<T>(sine), dy = static_cast<T>(cosine);
  T fx[kBlock], fy[kBlock];
  int32_t place[kBlock];
  const V ones = {1, 1, 1, 1, 0, 0, 0, 0}, signs = {-1, -1, -1, -1, 1, 1, 1, 1};
  V sum = {};
  for (int64_t start = first; start < last; start += kBlock) {
    const int count = static_cast<int>(last - start < kBlock ? last - start : kBlock);
    for (int i = 0; i < count; ++i) {
      const T r = static_cast<T>(static_cast<int32_t>(start) + i);
      const T x = smaller(larger(left + r * dx, T(0)), most), y = smaller(larger(top + r * dy, T(0)), most);
      const int32_t column = static_cast<int32_t>(x), row = static_cast<int32_t>(y);
      fx[i] = x - static_cast<T>(column);
      fy[i] = y - static_cast<T>(row);
      place[i] = column * static_cast<int32_t>(side) + row;
    }
    for (int i = 0; i < count; ++i) {
      const T* from = copies + kCopies * static_cast<int64_t>(place[i]);
      const V here = load<V>(from), next = load<V>(from + kCopies * side);
      sum += (here + fx[i] * (next - here)) * (ones + fy[i] * signs);
    }
  }
  for (int64_t m = 0; m < kCopies; ++m) sums[m] = sum[m] + sum[m + kCopies];
}

template <class T>
void project_any(const RotateParams& p) {
  const int64_t center = p.center(), side = 2 * center + 4, lines = 2 * center + 1, slots = p.views / 2 + 1;
  T* copies = static_cast<T*>(workspace(0, side * side * kCopies * static_cast<int64_t>(sizeof(T))));
  for (int64_t n = 0; n < p.batch; ++n) {
    fill_copies(static_cast<const T*>(p.in) + n * p.size * p.size, p.size, center, side, copies);
    T* proj = static_cast<T*>(p.out) + n * p.views * p.size;
    parallel_for(0, slots * lines, 16, [&](int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; ++item) {
        const int64_t slot = item / lines, t = item % lines - center;
        int64_t view[kCopies];
        views_of(slot, p.views, view);
        if (view[0] < 0 && view[1] < 0 && view[2] < 0 && view[3] < 0) continue;
        const double angle = kPi * static_cast<double>(slot) / static_cast<double>(2 * p.views);
        T sums[kCopies];
        sum_ray(copies, side, p.size, static_cast<double>(t), cos(angle), sin(angle), sums);
        // The mirrored copies see the ray on the other side of the centre.
        for (int64_t m = 0; m < kCopies; ++m) {
          const int64_t bin = (m < 2 ? t : -t) + center;
          if (view[m] >= 0 && bin >= 0 && bin < p.size) proj[view[m] * p.size + bin] = sums[m];
        }
      }
    });
  }
}

template <class T>
void adjoint_any(const RotateParams& p) {
  const int64_t center = p.center();
  parallel_for(0, p.batch * p.size, 1, [&](int64_t begin, int64_t end) {
    for (int64_t line = begin; line < end; ++line) {
      const T* proj = static_cast<const T*>(p.in) + line / p.size * p.views * p.size;
      T* to = static_cast<T*>(p.out) + line * p.size;
      for (int64_t j = 0; j < p.size; ++j) to[j] = T(0);
      const double y = static_cast<double>(line % p.size - center);
      for (int64_t view = 0; view < p.views; ++view) {
        const double angle = kPi * static_cast<double>(view) / static_cast<double>(p.views);
        const double cosine = cos(angle), sine = sin(angle);
        for (int64_t j = 0; j < p.size; ++j) {
          const double x = static_cast<double>(j - center);
          to[j] += gather_turned(proj + view * p.size, p.size, center, x, y, cosine, sine);
        }
      }
    }
  });
}

}  // namespace
}  // namespace MEDSYNTH_ISA_NAMESPACE

MEDSYNTH_DEFINE_CPU(rotate_project, RotateParams, p) {
  dispatch_float(p.dtype, [&](auto tag) { project_any<decltype(tag)>(p); });
}

MEDSYNTH_DEFINE_CPU(rotate_project_adjoint, RotateParams, p) {
  dispatch_float(p.dtype, [&](auto tag) { adjoint_any<decltype(tag)>(p); });
}

}  // namespace medsynth
