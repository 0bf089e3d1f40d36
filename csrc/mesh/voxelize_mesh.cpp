#include "voxelize_mesh.h"

#include <torch/csrc/stable/library.h>

#include <optional>
#include <tuple>

#include "../common/check.h"
#include "../common/cuda_stream.h"

namespace medsynth {
namespace {

// What a call is given; its tensors are kept here as the kernels need them.
struct MeshCall {
  Tensor verts, faces;
  std::optional<Tensor> part;
  int64_t parts;
  std::vector<int64_t> shape, priority;
  std::optional<Tensor> slices;

  std::vector<int64_t> out_shape() const {
    std::vector<int64_t> sizes{verts.size(0), parts, shape[0], shape[1]};
    if (!slices) sizes.push_back(shape[2]);
    return sizes;
  }
};

void check_long(Tensor& t, const char* name, const std::vector<int64_t>& shape, const Tensor& verts) {
  STD_TORCH_CHECK(t.scalar_type() == ScalarType::Long, name, " must be int64");
  check_shape(t, name, shape);
  check_same_device(verts, "verts", t, name);
  t = torch::stable::contiguous(t);
}

void set_order(const std::vector<int64_t>& priority, Mesh& m) {
  m.ordered = !priority.empty();
  if (!m.ordered) return;
  STD_TORCH_CHECK(m.parts <= kOrderedParts && static_cast<int64_t>(priority.size()) == m.parts,
                  "priority must name each of at most ", kOrderedParts, " parts once");
  std::vector<bool> seen(priority.size(), false);
  for (size_t rank = 0; rank < priority.size(); ++rank) {
    const int64_t part = priority[rank];
    STD_TORCH_CHECK(part >= 0 && part < m.parts && !seen[static_cast<size_t>(part)],
                    "priority must name each part once");
    seen[static_cast<size_t>(part)] = true;
    m.order[rank] = static_cast<uint8_t>(part);
  }
}

Mesh mesh_of(MeshCall& c) {
  STD_TORCH_CHECK(c.verts.dim() == 3 && c.verts.size(2) == 3, "verts must be (B, V, 3), got ", shape_of(c.verts));
  STD_TORCH_CHECK(c.faces.dim() == 2 && c.faces.size(1) == 3, "faces must be (F, 3), got ", shape_of(c.faces));
  STD_TORCH_CHECK(c.shape.size() == 3, "shape must have 3 entries, got ", c.shape.size());
  STD_TORCH_CHECK(c.parts >= 1 && c.parts < (int64_t{1} << 24), "n_parts must be at least 1, got ", c.parts);
  Mesh m{};
  m.dtype = float_dtype(c.verts, "verts");
  m.batch = c.verts.size(0);
  m.vertices = c.verts.size(1);
  m.face_count = c.faces.size(0);
  m.parts = c.parts;
  STD_TORCH_CHECK(m.face_count < (int64_t{1} << 31), "faces must be fewer than 2^31, got ", m.face_count);
  for (size_t d = 0; d < 3; ++d) {
    m.size[d] = c.shape[d];
    STD_TORCH_CHECK(m.size[d] >= 1 && m.size[d] < (int64_t{1} << 24), "shape holds ", m.size[d]);
  }
  c.verts = torch::stable::contiguous(c.verts);
  m.verts = c.verts.const_data_ptr();
  check_long(c.faces, "faces", {m.face_count, 3}, c.verts);
  m.faces = c.faces.const_data_ptr<int64_t>();
  if (c.part) {
    check_long(*c.part, "part", {m.face_count}, c.verts);
    m.part = c.part->const_data_ptr<int64_t>();
  }
  if (c.slices) {
    check_long(*c.slices, "slices", {m.batch}, c.verts);
    m.slices = c.slices->const_data_ptr<int64_t>();
  }
  set_order(c.priority, m);
  return m;
}

// Zeros on the device of `like`.
Tensor zeros_like(const Tensor& like, std::vector<int64_t> shape) {
  Tensor t = torch::stable::new_empty(like, shape, ScalarType::Long);
  torch::stable::fill_(t, 0);
  return t;
}

// Returns the number of open columns (B, parts).
Tensor fill_voxels(const MeshCall& c, const Mesh& m, const Tensor& out) {
  Tensor open = zeros_like(c.verts, {m.batch, m.parts});
  if (out.numel() == 0) return open;
  VoxelizeParams p{};
  p.mesh = m;
  p.out = out.mutable_data_ptr();
  p.out_dtype = out.scalar_type() == ScalarType::Byte ? DType::u8 : m.dtype;
  p.open = open.mutable_data_ptr<int64_t>();
#ifdef MEDSYNTH_WITH_CUDA
  if (on_cuda(c.verts)) {
    const CudaScope scope(c.verts.get_device());
    Tensor toggles = zeros_like(c.verts, {m.batch * m.parts * m.columns(), c.slices ? 1 : m.words()});
    p.toggles = reinterpret_cast<uint64_t*>(toggles.mutable_data_ptr<int64_t>());
    voxelize_mesh_cuda(p, scope.stream);
    return open;
  }
#endif
  voxelize_mesh_cpu(p);
  return open;
}

std::tuple<Tensor, Tensor> voxelize_mesh(Tensor verts, Tensor faces, std::optional<Tensor> part, int64_t n_parts,
                                         std::vector<int64_t> shape, std::vector<int64_t> priority,
                                         std::optional<Tensor> slices, bool integer) {
  MeshCall c{verts, faces, part, n_parts, shape, priority, slices};
  const Mesh m = mesh_of(c);
  Tensor out = torch::stable::new_empty(c.verts, c.out_shape(), integer ? ScalarType::Byte : c.verts.scalar_type());
  Tensor open = fill_voxels(c, m, out);
  return {out, open};
}

Tensor voxelize_mesh_out(Tensor verts, Tensor faces, std::optional<Tensor> part, int64_t n_parts,
                         std::vector<int64_t> shape, std::vector<int64_t> priority, std::optional<Tensor> slices,
                         Tensor out) {
  MeshCall c{verts, faces, part, n_parts, shape, priority, slices};
  const Mesh m = mesh_of(c);
  if (out.scalar_type() != ScalarType::Byte) check_same_dtype(c.verts, "verts", out, "out");
  check_out(out, c.out_shape(), c.verts);
  return fill_voxels(c, m, out);
}

Tensor voxelize_mesh_backward(Tensor grad, Tensor verts, Tensor faces, std::optional<Tensor> part, int64_t n_parts,
                              std::vector<int64_t> shape, std::vector<int64_t> priority, std::optional<Tensor> slices) {
  MeshCall c{verts, faces, part, n_parts, shape, priority, slices};
  VoxelizeBackwardParams p{};
  p.mesh = mesh_of(c);
  const Mesh& m = p.mesh;
  check_shape(grad, "grad", c.out_shape());
  check_same_dtype(c.verts, "verts", grad, "grad");
  check_same_device(c.verts, "verts", grad, "grad");
  grad = torch::stable::contiguous(grad);
  Tensor out = torch::stable::empty_like(c.verts);
  if (out.numel() == 0) return out;
  p.grad = grad.const_data_ptr();
  p.grad_verts = out.mutable_data_ptr();
  std::optional<Tensor> inside;
  if (m.ordered) {
    Mesh unordered = m;
    unordered.ordered = false;
    inside = torch::stable::new_empty(c.verts, c.out_shape(), ScalarType::Byte);
    fill_voxels(c, unordered, *inside);
    p.inside = inside->const_data_ptr<uint8_t>();
  }
#ifdef MEDSYNTH_WITH_CUDA
  if (on_cuda(c.verts)) {
    const CudaScope scope(c.verts.get_device());
    Tensor forces = torch::stable::new_empty(c.verts, {m.batch * m.face_count, 6}, ScalarType::Double);
    Tensor volumes = torch::stable::new_empty(c.verts, {m.batch, m.parts}, ScalarType::Double);
    Tensor sums = zeros_like(c.verts, {m.batch * (3 * m.vertices + 1)});
    p.forces = forces.mutable_data_ptr<double>();
    p.volumes = volumes.mutable_data_ptr<double>();
    p.sums = sums.mutable_data_ptr<int64_t>();
    voxelize_mesh_backward_cuda(p, scope.stream);
    return out;
  }
#endif
  voxelize_mesh_backward_cpu(p);
  return out;
}

}  // namespace
}  // namespace medsynth

#define MEDSYNTH_MESH_KERNELS(m)                                                  \
  m.impl("voxelize_mesh", TORCH_BOX(&medsynth::voxelize_mesh));                   \
  m.impl("voxelize_mesh_backward", TORCH_BOX(&medsynth::voxelize_mesh_backward)); \
  m.impl("voxelize_mesh_out", TORCH_BOX(&medsynth::voxelize_mesh_out))

STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, CPU, m) { MEDSYNTH_MESH_KERNELS(m); }
#ifdef MEDSYNTH_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(medsynth_ext, CUDA, m) { MEDSYNTH_MESH_KERNELS(m); }
#endif
