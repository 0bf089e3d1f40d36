"""The surface integral as the gradient of voxelize_mesh, and finite differences."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from meshes import ball, box, hearts, joined, sphere
from torch import Tensor

from medsynth_ext import ops
from medsynth_ext._extension import has_operators

needs_kernels = pytest.mark.skipif(not has_operators(), reason="operators are not built")


def test_hand_worked_gradient_of_a_box(device: torch.device) -> None:
    verts, faces = box((1.5, 1.5, 1.5), (3.5, 4.5, 5.5))
    leaf = verts[None].to(device).requires_grad_()
    ops.voxelize_mesh(leaf, faces.to(device), shape=(8, 8, 8)).sum().backward()
    assert leaf.grad is not None
    sides = torch.where(verts > verts.mean(0), 1.0, -1.0)
    push = (leaf.grad[0].cpu() * sides).reshape(2, 2, 2, 3)
    want = torch.tensor([2 * 3 * 4, 2 * 2 * 4, 2 * 2 * 3], dtype=torch.float64)  # both faces across each axis
    assert torch.allclose(push.sum((0, 1, 2)), want, rtol=1e-12)


def test_sphere_has_its_volume_and_its_surface_as_derivative(device: torch.device) -> None:
    unit, faces = sphere(96, 63)
    radius = torch.tensor(20.0, dtype=torch.float64, device=device, requires_grad=True)
    verts = unit.to(device) * radius + torch.tensor([31.2, 32.4, 33.1], dtype=torch.float64, device=device)
    volume = ops.voxelize_mesh(verts[None], faces.to(device), shape=(64, 65, 66)).sum()
    volume.backward()
    assert radius.grad is not None
    assert volume.item() == pytest.approx(4 / 3 * math.pi * 20**3, rel=0.005)
    assert radius.grad.item() == pytest.approx(4 * math.pi * 20**2, rel=0.005)


def shapes_of(t: Tensor, unit: Tensor, modes: Tensor) -> Tensor:  # (8,) -> (1, V, 3)
    return (13 * unit + torch.tensor([24.1, 23.2, 23.7]) + torch.einsum("m,mvd->vd", t, modes))[None]


@pytest.mark.parametrize("index", [None, 25])
def test_gradient_of_a_soft_overlap_follows_finite_differences(index: int | None) -> None:
    unit, faces = sphere(40, 31)
    x, y, z = unit.T
    waves = [torch.ones_like(x), x, y, z, x * y, y * z, x * x, y * y]
    modes = torch.stack([wave[:, None] * unit for wave in waves])
    modes = modes / modes.norm(dim=-1).amax(1)[:, None, None]
    at = torch.cartesian_prod(*[torch.arange(48.0, dtype=torch.float64)] * 3)
    target = torch.sigmoid((14 - (at - 25).norm(dim=1)) / 2).view(48, 48, 48)
    target = target if index is None else target[..., index]

    def occupancy(t: Tensor) -> Tensor:
        return ops.voxelize_mesh(shapes_of(t, unit, modes), faces, shape=(48, 48, 48), slice_index=index)[0, 0]

    def loss(voxels: Tensor) -> Tensor:
        return 1 - (voxels * target).sum() / (voxels + target - voxels * target).sum()

    t = torch.zeros(8, dtype=torch.float64, requires_grad=True)
    voxels = occupancy(t)
    (surface,) = torch.autograd.grad(loss(voxels), t)
    leaf = voxels.detach().requires_grad_()
    (field,) = torch.autograd.grad(loss(leaf), leaf)
    differences = ops.finite_difference_shape_grad(occupancy, t, 0.6, field)
    assert torch.cosine_similarity(surface, differences, dim=0) >= 0.98
    assert (surface.norm() / differences.norm()).item() == pytest.approx(1, abs=0.15)


def test_gradient_of_an_overlap_that_leaves_the_grid_follows_finite_differences() -> None:
    unit, faces = sphere(40, 31)
    centers = torch.tensor([[1.0, 15, 15], [15, 30, 15], [15, 15, -2.0], [50, 15, 15]], dtype=torch.float64)

    def occupancy(place: Tensor) -> Tensor:
        return ops.voxelize_mesh(9 * unit + place[:, None], faces, shape=(30, 31, 32))

    leaf = centers.clone().requires_grad_()
    voxels = occupancy(leaf)
    (surface,) = torch.autograd.grad(voxels.sum(), leaf)
    differences = ops.finite_difference_shape_grad(occupancy, centers, 0.6, torch.ones_like(voxels))
    assert (surface - differences).norm() < 0.05 * differences.norm()
    assert surface[3].abs().max() == 0  # nothing of it is in the grid
    assert voxels[3].sum() == 0


def test_moving_by_whole_voxels_moves_the_result(device: torch.device) -> None:
    verts, faces = ball((8.3, 9.1, 8.6), 5.2)
    verts = torch.stack([verts, verts + torch.tensor([3, -2, 5])]).to(device)
    leaf = verts.requires_grad_()
    first, second = ops.voxelize_mesh(leaf, faces.to(device), shape=(20, 20, 20)).unbind()
    assert torch.equal(torch.roll(first.detach(), (3, -2, 5), (1, 2, 3)), second.detach())
    (grad,) = torch.autograd.grad(first.sum() + second.sum(), leaf)
    assert grad.sum(1).abs().max() < 1e-9  # its volume does not change when it moves
    assert torch.allclose(grad[0], grad[1], atol=1e-9)


@needs_kernels
def test_orientation_of_a_part_does_not_matter(device: torch.device) -> None:
    verts, faces, part = (t.to(device) for t in hearts())
    leaf, results = verts.requires_grad_(), []
    for oriented in (faces, torch.where((part == 1)[:, None], faces.flip(1), faces)):
        found = ops.voxelize_mesh(leaf, oriented, shape=(20, 21, 22), part=part, n_parts=2)
        results.append(
            (found.detach(), torch.autograd.grad((found * found.new_tensor([1.0, 2]).view(2, 1, 1, 1)).sum(), leaf)[0])
        )
    (want, want_back), (got, back) = results
    assert torch.equal(got, want)
    assert torch.allclose(back, want_back, atol=1e-9)


def test_union_of_ordered_parts_has_the_gradient_of_its_surface() -> None:
    verts, faces, part = joined(ball((12, 12, 12), 8.3, around=48, rings=31), ball((12.2, 12.1, 11.9), 5.1))
    leaf = verts[None].clone().requires_grad_()
    options = {"shape": (25, 25, 25), "part": part, "n_parts": 2}
    ops.voxelize_mesh(leaf, faces, priority=(1, 0), **options).sum().backward()
    assert leaf.grad is not None
    inner = leaf.grad[0, int(faces[part == 1].min()) :]
    assert inner.abs().max() == 0  # the inner part moves a border, not the union
    outer = leaf.grad[0, : int(faces[part == 1].min())]
    assert (outer * (verts[: len(outer)] - 12)).sum().item() / 8.3 == pytest.approx(4 * math.pi * 8.3**2, rel=0.01)


@needs_kernels
def test_compiled_gradient_is_the_eager_one() -> None:
    verts, faces, _ = hearts(torch.float32)

    def volume(v: Tensor) -> Tensor:
        return 2 * ops.voxelize_mesh(v, faces, shape=(16, 16, 16)).sum((1, 2, 3, 4))

    torch._dynamo.reset()
    compiled = torch.compile(volume, fullgraph=True, backend="aot_eager")
    first, second = verts.clone().requires_grad_(), verts.clone().requires_grad_()
    assert torch.equal(compiled(first), volume(second))
    compiled(first).sum().backward()
    volume(second).sum().backward()
    assert torch.equal(first.grad, second.grad)


def test_there_is_no_second_derivative() -> None:
    verts, faces, _ = hearts()
    leaf = verts.requires_grad_()
    weights = torch.rand(2, 1, 8, 8, 8, dtype=torch.float64, requires_grad=True)
    loss = (weights * ops.voxelize_mesh(leaf, faces, shape=(8, 8, 8))).sum()
    (grad,) = torch.autograd.grad(loss, leaf, create_graph=True)
    with pytest.raises((NotImplementedError, RuntimeError), match=r"no second derivative|once_differentiable"):
        grad.sum().backward()


def test_finite_differences_count_what_is_lost_too() -> None:
    places = torch.arange(6.0)
    grad = torch.tensor([[1.0, 2, 4, 8, 16, 32], [1, 1, 1, 1, 1, 1]])

    def below(t: Tensor) -> Tensor:  # (2, 2) -> (2, 6): uint8, where a difference would wrap
        return ((places < t[:, :1]) & (places >= t[:, 1:])).byte()

    found = ops.finite_difference_shape_grad(
        below, torch.tensor([[3.5, 0.5], [2.5, 1.5]]), torch.tensor([1.0, 0.5]), grad
    )
    assert found.tolist() == [[12.0, -1.0], [1.0, -1.0]]


@pytest.mark.parametrize(
    ("eps", "grad", "message"),
    [
        (0.0, torch.zeros(4), r"eps must be positive, a number or \(2,\), got 0.0"),
        (torch.ones(3), torch.zeros(4), r"eps must be positive, a number or \(2,\)"),
        (1.0, torch.zeros(5), r"grad must have the shape of voxelize\(parameters\) \(4,\)"),
    ],
)
def test_wrong_finite_differences_are_named(eps: Any, grad: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ops.finite_difference_shape_grad(lambda t: torch.zeros(4), torch.zeros(2), eps, grad)
