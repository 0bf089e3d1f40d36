"""warp_points: landmarks along a displacement and against it."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch

from medsynth_ext import ops

sys.path.insert(0, str(Path(__file__).parent))
from diffeo_fields import BORDERS, smooth_field


def random_points(size: tuple[int, ...], count: int, batch: int = 1) -> torch.Tensor:
    """Points (B, N, D) inside the grid, away from its faces."""
    span = torch.tensor([n - 5.0 for n in size], dtype=torch.float64)
    generator = torch.Generator().manual_seed(5)
    return torch.rand(batch, count, len(size), generator=generator, dtype=torch.float64) * span + 2


def test_hand_worked_table(device):
    u = torch.tensor([[[0.0, 1.0, 2.0, 2.0]]], device=device)
    points = torch.tensor([[[0.5], [2.0], [9.0]]], device=device)
    assert ops.warp_points(points, u, direction="forward").tolist() == [[[1.0], [4.0], [11.0]]]
    y, converged = ops.warp_points(torch.tensor([[[5.0]]], device=device), u, direction="inverse")
    assert y.tolist() == [[[3.0]]]
    assert converged.tolist() == [[True]]


@pytest.mark.parametrize("size", [(30,), (20, 22), (14, 15, 16)])
def test_inverse_undoes_forward(device, size):
    u = smooth_field(size, amplitude=0.6).to(device)
    points = random_points(size, 40).to(device)
    y, converged = ops.warp_points(points, u, direction="inverse", tolerance=1e-9, max_iterations=200)
    assert converged.all()
    assert torch.allclose(ops.warp_points(y, u, direction="forward"), points, rtol=0, atol=1e-8)


def test_default_tolerance_is_a_thousandth_of_a_voxel():
    u, points = smooth_field((14, 15, 16), amplitude=0.6), random_points((14, 15, 16), 40)
    y, converged = ops.warp_points(points, u, direction="inverse")
    error = (ops.warp_points(y, u, direction="forward") - points).abs().amax(2)
    assert (error[converged] < 1e-3).all()
    assert converged.float().mean() > 0.9


def test_forward_along_the_inverse_velocity_agrees_with_the_fixed_point():
    velocity = smooth_field((24, 24, 24), amplitude=1.0)
    points = random_points((24, 24, 24), 50)
    y, converged = ops.warp_points(points, ops.integrate_svf(velocity), direction="inverse")
    exact = ops.warp_points(points, ops.integrate_svf(velocity, inverse=True), direction="forward")
    assert (y - exact)[converged].abs().mean() < 0.05


def test_a_folding_field_is_reported_as_not_converged():
    u = torch.tensor([[[0.0, 8.0, 0.0, 8.0, 0.0, 8.0, 0.0]]], dtype=torch.float64)
    _, converged = ops.warp_points(torch.tensor([[[3.5]]], dtype=torch.float64), u, direction="inverse")
    assert not converged.item()


def test_nan_points_do_not_converge_and_leave_the_others_alone():
    u = smooth_field((12, 12), amplitude=0.5)
    points = random_points((12, 12), 3)
    alone = ops.warp_points(points[:, :1], u, direction="inverse")[0]
    points[0, 1] = math.nan
    points[0, 2] = 1e30
    y, converged = ops.warp_points(points, u, direction="inverse")
    assert torch.equal(y[:, :1], alone)
    assert y[0, 1].isnan().all()
    assert not converged[0, 1]


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize("size", [(9,), (7, 8), (5, 6, 5)])
def test_gradcheck(border, direction, size):
    u = smooth_field(size, amplitude=0.15).requires_grad_()
    points = random_points(size, 2).requires_grad_()

    def call(p: torch.Tensor, field: torch.Tensor) -> torch.Tensor:
        options = {"max_iterations": 60, "tolerance": 1e-13}
        result = ops.warp_points(p, field, direction=direction, border=border, **options)
        return result if direction == "forward" else result[0]

    assert torch.autograd.gradcheck(call, (points, u), nondet_tol=1e-12)


def test_inverse_gradient_is_that_of_the_implicit_function():
    slope = 0.25
    u = (torch.arange(9.0, dtype=torch.float64) * slope)[None, None]
    p = torch.tensor([[[4.0]]], dtype=torch.float64, requires_grad=True)
    ops.warp_points(p, u, direction="inverse")[0].sum().backward()
    assert p.grad.item() == pytest.approx(1 / (1 + slope))


def test_second_derivative_of_the_inverse_is_refused():
    u, points = smooth_field((7, 8), amplitude=0.2), random_points((7, 8), 3).requires_grad_()
    y, _ = ops.warp_points(points, u, direction="inverse")
    (grad,) = torch.autograd.grad(y.square().sum(), points, create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivative"):
        grad.sum().backward()


def test_shared_field_empty_points_and_out():
    u, points = smooth_field((9, 10), amplitude=0.4), random_points((9, 10), 6, batch=3)
    want = torch.cat([ops.warp_points(p[None], u, direction="forward") for p in points])
    assert torch.equal(ops.warp_points(points, u, direction="forward"), want)
    assert ops.warp_points(points[:, :0], u, direction="forward").shape == (3, 0, 2)
    y, converged = ops.warp_points(points[:, :0], u, direction="inverse")
    assert y.shape == (3, 0, 2)
    assert converged.shape == (3, 0)
    out = torch.empty_like(points)
    assert ops.warp_points(points, u, direction="inverse", out=out)[0] is out


@pytest.mark.parametrize(
    ("points", "options", "error", "message"),
    [
        (torch.zeros(1, 2, 3), {"direction": "forward"}, ValueError, r"points must be \(B, N, 2\)"),
        (torch.zeros(1, 2, 2), {"direction": "back"}, ValueError, "direction must be one of"),
        (torch.zeros(1, 2, 2).double(), {"direction": "forward"}, TypeError, "points must have the dtype"),
        (torch.zeros(2, 2, 2), {"direction": "inverse", "tolerance": 0.0}, ValueError, "tolerance must be above 0"),
        (torch.zeros(2, 2, 2), {"direction": "inverse", "max_iterations": 0}, ValueError, "max_iterations"),
        (torch.zeros(3, 2, 2), {"direction": "forward"}, ValueError, "displacement must have batch 1 or 3"),
    ],
)
def test_bad_arguments_are_named(points, options, error, message):
    with pytest.raises(error, match=message):
        ops.warp_points(points, torch.zeros(2, 2, 5, 5), **options)
