#include "../common/dispatch.h"
#include "compose.h"
#include "quad_kernels.cuh"

namespace medsynth {
namespace {

int64_t field_bytes(const ComposeParams& p) { return p.batch * p.grid.voxels() * 4 * size_of(p.dtype); }

// The fields of one call, one after the other in the scratch, and the launches on them.
template <class T>
struct Fields {
  const ComposeParams& p;
  cudaStream_t stream;
  unsigned blocks = blocks_for(p.batch * p.grid.voxels(), kQuadThreads);

  QuadBatch<T> field(int k) const {
    return {static_cast<Quad<T>*>(p.scratch) + k * p.batch * p.grid.voxels(), p.grid.voxels()};
  }
  QuadBatch<T> packed(const void* planar, int64_t stride, int k) const {
    MEDSYNTH_LAUNCH(pack_kernel<T>, blocks, kQuadThreads, stream, static_cast<const T*>(planar), stride, p.grid,
                    p.batch, T(1), field(k));
    return field(k);
  }
  void unpack(QuadBatch<T> from, void* planar) const {
    MEDSYNTH_LAUNCH(unpack_kernel<T>, blocks, kQuadThreads, stream, from, p.grid, p.batch, T(1),
                    static_cast<T*>(planar));
  }
};

template <Border B, class T>
void forward(const ComposeParams& p, cudaStream_t stream) {
  const Fields<T> f{p, stream};
  const QuadBatch<T> field = f.packed(p.u1, p.stride1, 0), disp = f.packed(p.u2, p.stride2, 1);
  MEDSYNTH_LAUNCH((step_kernel<B, T>), f.blocks, kQuadThreads, stream, disp, field, p.grid, p.batch, {nullptr, 0},
                  static_cast<T*>(p.out));
}

template <Border B, class T>
void backward(const ComposeParams& p, cudaStream_t stream) {
  const Fields<T> f{p, stream};
  const QuadBatch<T> field = f.packed(p.u1, p.stride1, 0), disp = f.packed(p.u2, p.stride2, 1);
  const QuadBatch<T> grad = f.packed(p.grad, p.grid.dims * p.grid.voxels(), 2), kept = f.field(3);
  const ScatterScratch scatter(static_cast<char*>(p.scratch) + 4 * field_bytes(p), p.batch);
  launch_adjoint<B, T>(disp, field, grad, p.grid, p.batch, scatter, kept, stream);
  f.unpack(kept, p.grad_u2);
  MEDSYNTH_LAUNCH(add_sums_kernel<T>, f.blocks, kQuadThreads, stream, {nullptr, 0}, scatter.sums, scatter.largest,
                  p.grid, p.batch, kept);
  f.unpack(kept, p.grad_u1);
}

}  // namespace

int64_t compose_scratch_bytes(const ComposeParams& p) { return 2 * field_bytes(p); }

int64_t compose_backward_scratch_bytes(const ComposeParams& p) {
  return 4 * field_bytes(p) + ScatterScratch::bytes(p.grid, p.batch);
}

void compose_cuda(const ComposeParams& p, void* stream_pointer) {
  const auto stream = static_cast<cudaStream_t>(stream_pointer);
  dispatch_float(p.dtype, [&](auto tag) {
    dispatch_border(p.border, [&](auto border) { forward<decltype(border)::value, decltype(tag)>(p, stream); });
  });
  check_launch("compose");
}

void compose_backward_cuda(const ComposeParams& p, void* stream_pointer) {
  const auto stream = static_cast<cudaStream_t>(stream_pointer);
  dispatch_float(p.dtype, [&](auto tag) {
    dispatch_border(p.border, [&](auto border) { backward<decltype(border)::value, decltype(tag)>(p, stream); });
  });
  check_launch("compose_backward");
}

}  // namespace medsynth
