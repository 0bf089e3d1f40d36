#include "../common/dispatch.h"
#include "integrate_svf.h"
#include "quad_kernels.cuh"
#include "svf_levels.h"

namespace medsynth {
namespace {

int64_t field_bytes(const IntegrateSvfParams& p) { return p.batch * p.grid.voxels() * 4 * size_of(p.dtype); }

template <class T>
T first_scale(const IntegrateSvfParams& p) {
  const T scale = T(1) / static_cast<T>(int64_t{1} << p.steps);
  return p.inverse ? -scale : scale;
}

template <class T>
__global__ void scaled_copy_kernel(const T* in, T* out, int64_t n, T scale) {
  MEDSYNTH_GRID_STRIDE(i, n) out[i] = in[i] * scale;
}

template <class T>
void scaled_copy(const IntegrateSvfParams& p, const void* from, cudaStream_t stream) {
  const int64_t n = p.batch * p.grid.dims * p.grid.voxels();
  MEDSYNTH_LAUNCH(scaled_copy_kernel<T>, blocks_for(n, kQuadThreads), kQuadThreads, stream, static_cast<const T*>(from),
                  static_cast<T*>(p.out), n, first_scale<T>(p));
}

// The fields of one call and the launches on them.
template <Border B, class T>
struct Fields {
  const IntegrateSvfParams& p;
  cudaStream_t stream;
  unsigned blocks = blocks_for(p.batch * p.grid.voxels(), kQuadThreads);

  QuadBatch<T> level(int k) const {
    return {static_cast<Quad<T>*>(p.levels) + k * p.grid.voxels(), p.steps * p.grid.voxels()};
  }
  QuadBatch<T> slot(int k) const {
    return {static_cast<Quad<T>*>(p.scratch) + k * p.batch * p.grid.voxels(), p.grid.voxels()};
  }
  void pack(const void* planar, T scale, QuadBatch<T> to) const {
    MEDSYNTH_LAUNCH(pack_kernel<T>, blocks, kQuadThreads, stream, static_cast<const T*>(planar),
                    p.grid.dims * p.grid.voxels(), p.grid, p.batch, scale, to);
  }
  void step(QuadBatch<T> from, QuadBatch<T> to, T* planar) const {
    MEDSYNTH_LAUNCH((step_kernel<B, T>), blocks, kQuadThreads, stream, from, from, p.grid, p.batch, to, planar);
  }
};

template <Border B, class T>
void forward(const IntegrateSvfParams& p, cudaStream_t stream) {
  const Fields<B, T> f{p, stream};
  const auto field = [&](int k) { return p.levels ? f.level(k) : f.slot(k % 2); };
  f.pack(p.velocity, first_scale<T>(p), field(0));
  for (int k = 1; k < p.steps; ++k) f.step(field(k - 1), field(k), nullptr);
  f.step(field(p.steps - 1), {nullptr, 0}, static_cast<T*>(p.out));
}

template <Border B, class T>
void backward(const IntegrateSvfParams& p, cudaStream_t stream) {
  const Fields<B, T> f{p, stream};
  const int slots = p.levels ? 0 : svf_slots(p.steps);
  const ScatterScratch scatter(static_cast<char*>(p.scratch) + (slots + 2) * field_bytes(p), p.batch);
  QuadBatch<T> grad = f.slot(slots), next = f.slot(slots + 1);
  const auto begin = [&] { f.pack(p.grad, T(1), grad); };
  const auto visit = [&](QuadBatch<T> u) {
    launch_adjoint<B, T>(u, u, grad, p.grid, p.batch, scatter, next, stream);
    MEDSYNTH_LAUNCH(add_sums_kernel<T>, f.blocks, kQuadThreads, stream, next, scatter.sums, scatter.largest, p.grid,
                    p.batch, grad);
  };
  if (p.levels) {
    begin();
    for (int k = p.steps - 1; k >= 0; --k) visit(f.level(k));
  } else {
    walk_levels(
        p.steps, [&](int slot) { f.pack(p.velocity, first_scale<T>(p), f.slot(slot)); },
        [&](int from, int to) { f.step(f.slot(from), f.slot(to), nullptr); }, begin,
        [&](int slot) { visit(f.slot(slot)); });
  }
  MEDSYNTH_LAUNCH(unpack_kernel<T>, f.blocks, kQuadThreads, stream, grad, p.grid, p.batch, first_scale<T>(p),
                  static_cast<T*>(p.out));
}

}  // namespace

int64_t integrate_svf_scratch_bytes(const IntegrateSvfParams& p) { return p.levels ? 0 : 2 * field_bytes(p); }

int64_t integrate_svf_backward_scratch_bytes(const IntegrateSvfParams& p) {
  const int slots = p.levels ? 0 : svf_slots(p.steps);
  return (slots + 2) * field_bytes(p) + ScatterScratch::bytes(p.grid, p.batch);
}

void integrate_svf_cuda(const IntegrateSvfParams& p, void* stream_pointer) {
  const auto stream = static_cast<cudaStream_t>(stream_pointer);
  dispatch_float(p.dtype, [&](auto tag) {
    using T = decltype(tag);
    if (p.steps == 0) return scaled_copy<T>(p, p.velocity, stream);
    dispatch_border(p.border, [&](auto border) { forward<decltype(border)::value, T>(p, stream); });
  });
  check_launch("integrate_svf");
}

void integrate_svf_backward_cuda(const IntegrateSvfParams& p, void* stream_pointer) {
  const auto stream = static_cast<cudaStream_t>(stream_pointer);
  dispatch_float(p.dtype, [&](auto tag) {
    using T = decltype(tag);
    if (p.steps == 0) return scaled_copy<T>(p, p.grad, stream);
    dispatch_border(p.border, [&](auto border) { backward<decltype(border)::value, T>(p, stream); });
  });
  check_launch("integrate_svf_backward");
}

}  // namespace medsynth
