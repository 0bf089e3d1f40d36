#include "../common/cuda.h"
#include "../common/dispatch.h"
#include "voxelize_mesh_math.h"

namespace medsynth {
namespace {

constexpr int kThreads = 256;
constexpr int kWarp = 32;
constexpr int kLanesPerRow = 8;  // a warp works on four rows of a face at once

using Word = unsigned long long;

// One warp per face. Integer toggles: their order does not matter.
template <class T>
__global__ void __launch_bounds__(kThreads) toggle_kernel(VoxelizeParams p) {
  const Mesh& m = p.mesh;
  const int lane = threadIdx.x % kWarp;
  const int64_t warps = static_cast<int64_t>(gridDim.x) * (kThreads / kWarp);
  const int64_t first = (blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x) / kWarp;
  for (int64_t item = first; item < m.batch * m.face_count; item += warps) {
    const int64_t b = item / m.face_count;
    Face face;
    if (!load_face<T>(m, b, item - b * m.face_count, face)) continue;
    const int64_t words = m.slices == nullptr ? m.words() : 1;
    for (int64_t row = face.first_row + lane / kLanesPerRow; row < face.last_row; row += kWarp / kLanesPerRow) {
      const Span span = span_of(face, row, m.size[1]);
      const int64_t line = ((b * m.parts + face.part) * m.size[0] + row) * m.size[1];
      for (int64_t j = span.first + lane % kLanesPerRow; j < span.last; j += kLanesPerRow) {
        const int64_t cell = span.cell(j, m.size[2]);
        Word* word = reinterpret_cast<Word*>(p.toggles) + (line + j) * words;
        if (m.slices == nullptr) {
          atomicXor(word + cell / 64, Word{1} << (cell % 64));
        } else {
          atomicXor(word, cell <= m.slices[b] ? Word{3} : Word{2});
        }
      }
    }
  }
}

// One thread per column of a part: toggles become what is inside.
__global__ void __launch_bounds__(kThreads) fill_kernel(VoxelizeParams p) {
  const Mesh& m = p.mesh;
  const int64_t words = m.slices == nullptr ? m.words() : 1;
  MEDSYNTH_GRID_STRIDE(i, m.batch * m.parts * m.columns()) {
    uint64_t* word = p.toggles + i * words;
    bool open;
    if (m.slices == nullptr) {
      open = fill_column(word, words, m.size[2]);
    } else {
      open = (*word >> 1) & 1;
      *word &= 1;
    }
    if (open) atomicAdd(reinterpret_cast<Word*>(p.open + i / m.columns()), Word{1});
  }
}

// A word of a column of a part, less what earlier parts have.
__device__ uint64_t owned_word(const VoxelizeParams& p, int64_t b, int64_t part, int64_t column, int64_t w,
                               int64_t words) {
  const Mesh& m = p.mesh;
  const uint64_t* word = p.toggles + (b * m.parts * m.columns() + column) * words + w;
  const int64_t stride = m.columns() * words;
  uint64_t own = word[part * stride];
  if (!m.ordered) return own;
  for (int64_t rank = 0; m.order[rank] != part; ++rank) own &= ~word[m.order[rank] * stride];
  return own;
}

template <class Out, int kCount>
struct alignas(kCount * sizeof(Out)) Group {
  Out value[kCount];
};

// One warp per column of a part, kCount neighbouring voxels per lane; kCount divides the depth.
template <class Out, int kCount>
__global__ void __launch_bounds__(kThreads) write_kernel(VoxelizeParams p) {
  const Mesh& m = p.mesh;
  const int lane = threadIdx.x % kWarp;
  const int64_t columns = m.columns(), words = m.words();
  const int64_t warps = static_cast<int64_t>(gridDim.x) * (kThreads / kWarp);
  const int64_t first = (blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x) / kWarp;
  for (int64_t i = first; i < m.batch * m.parts * columns; i += warps) {
    const int64_t plane = i / columns, column = i - plane * columns;
    const int64_t b = plane / m.parts, part = plane - b * m.parts;
    for (int64_t k = lane * kCount; k < m.size[2]; k += kWarp * kCount) {
      const uint64_t bits = owned_word(p, b, part, column, k / 64, words) >> (k % 64);
      Group<Out, kCount> group;
      for (int n = 0; n < kCount; ++n) group.value[n] = static_cast<Out>((bits >> n) & 1);
      *reinterpret_cast<Group<Out, kCount>*>(static_cast<Out*>(p.out) + i * m.size[2] + k) = group;
    }
  }
}

// One thread per column of a part of a slice.
template <class Out>
__global__ void __launch_bounds__(kThreads) write_slice_kernel(VoxelizeParams p) {
  const Mesh& m = p.mesh;
  const int64_t columns = m.columns();
  MEDSYNTH_GRID_STRIDE(i, m.batch * m.parts * columns) {
    const int64_t plane = i / columns, b = plane / m.parts;
    static_cast<Out*>(p.out)[i] = static_cast<Out>(owned_word(p, b, plane - b * m.parts, i - plane * columns, 0, 1));
  }
}

template <class Out>
void launch_write(const VoxelizeParams& p, cudaStream_t stream) {
  const Mesh& m = p.mesh;
  const int64_t lines = m.batch * m.parts * m.columns();
  constexpr int kCount = 4;
  if (m.slices != nullptr) {
    MEDSYNTH_LAUNCH(write_slice_kernel<Out>, blocks_for(lines, kThreads), kThreads, stream, p);
  } else if (m.size[2] % kCount == 0 && reinterpret_cast<uintptr_t>(p.out) % (kCount * sizeof(Out)) == 0) {
    MEDSYNTH_LAUNCH((write_kernel<Out, kCount>), blocks_for(lines * kWarp, kThreads), kThreads, stream, p);
  } else {
    MEDSYNTH_LAUNCH((write_kernel<Out, 1>), blocks_for(lines * kWarp, kThreads), kThreads, stream, p);
  }
}

}  // namespace

void voxelize_mesh_cuda(const VoxelizeParams& p, void* stream) {
  const Mesh& m = p.mesh;
  const cudaStream_t s = static_cast<cudaStream_t>(stream);
  dispatch_float(m.dtype, [&](auto tag) {
    using T = decltype(tag);
    if (m.face_count > 0) {
      MEDSYNTH_LAUNCH(toggle_kernel<T>, blocks_for(m.batch * m.face_count * kWarp, kThreads), kThreads, s, p);
    }
    MEDSYNTH_LAUNCH(fill_kernel, blocks_for(m.batch * m.parts * m.columns(), kThreads), kThreads, s, p);
    if (p.out_dtype == DType::u8) {
      launch_write<uint8_t>(p, s);
    } else {
      launch_write<T>(p, s);
    }
  });
  check_launch("voxelize_mesh");
}

}  // namespace medsynth
