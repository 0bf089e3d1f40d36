// Four neighbouring voxels at a time, and where they lie.
#pragma once
#include "../common/cuda.h"

namespace medsynth {

template <class T>
struct alignas(4 * sizeof(T)) Four {
  T v[4];
};

template <class T>
__device__ __forceinline__ Four<T> load_four(const T* p) {
  return *reinterpret_cast<const Four<T>*>(p);
}

// Whether rows of this data can be taken in fours that never cross the end of a row.
template <class T>
bool rows_of_fours(const void* data, int64_t width) {
  return width % 4 == 0 && reinterpret_cast<uintptr_t>(data) % sizeof(Four<T>) == 0;
}

// The place of voxel v in a box of these sizes; 32-bit divisions where they do.
__device__ __forceinline__ void place_of(int64_t v, const int64_t (&n)[3], int64_t (&r)[3]) {
  if (n[0] * n[1] * n[2] <= int64_t{0xFFFFFFFF}) {
    const auto i = static_cast<uint32_t>(v), width = static_cast<uint32_t>(n[2]), height = static_cast<uint32_t>(n[1]);
    const uint32_t row = i / width, z = row / height;
    r[0] = z;
    r[1] = row - z * height;
    r[2] = i - row * width;
  } else {
    const int64_t row = v / n[2];
    r[0] = row / n[1];
    r[1] = row - r[0] * n[1];
    r[2] = v - row * n[2];
  }
}

// One dimension of a grid for n pieces of work.
inline unsigned at_most_blocks(int64_t n) { return static_cast<unsigned>(n < 65535 ? n : 65535); }

}  // namespace medsynth
