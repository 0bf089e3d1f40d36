"""Plain PyTorch twins of the diffeo family: velocity fields, composition, Jacobians and points."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from medsynth_ext.ops._checks import in_graph
from medsynth_ext.ops._precision import float32_inside
from medsynth_ext.ops.reference._sampling import index_grid, linear_sample, sample_slopes

__all__ = ["compose", "integrate_svf", "jacobian_determinant", "warp_points"]


@float32_inside("u1", "u2")
def compose(u1: Tensor, u2: Tensor, *, border: str = "clamp") -> Tensor:
    """``u2(x) + u1(x + u2(x))``; see :func:`medsynth_ext.ops.compose`."""
    return u2 + linear_sample(u1, index_grid(tuple(u2.shape[2:]), u2) + u2, border=border)


@float32_inside("velocity")
def integrate_svf(velocity: Tensor, steps: int = 7, *, border: str = "clamp", inverse: bool = False) -> Tensor:
    """Scaling and squaring; see :func:`medsynth_ext.ops.integrate_svf`."""
    displacement = velocity * ((-1.0 if inverse else 1.0) * 2.0**-steps)
    for _ in range(steps):
        displacement = compose(displacement, displacement, border=border)
    return displacement


def _central_difference(field: Tensor, axis: int) -> Tensor:
    """Central differences along an axis, one-sided at its ends, zero on an axis of one voxel."""
    n = field.shape[axis]
    if n == 1:
        return torch.zeros_like(field)
    first = field.narrow(axis, 1, 1) - field.narrow(axis, 0, 1)
    last = field.narrow(axis, n - 1, 1) - field.narrow(axis, n - 2, 1)
    middle = (field.narrow(axis, 2, n - 2) - field.narrow(axis, 0, n - 2)) / 2
    return torch.cat([first, middle, last], dim=axis)


@float32_inside("displacement")
def jacobian_determinant(displacement: Tensor) -> Tensor:
    """Determinant of ``I + grad u``; see :func:`medsynth_ext.ops.jacobian_determinant`."""
    dims = displacement.shape[1]
    slopes = torch.stack([_central_difference(displacement, 2 + d) for d in range(dims)], dim=2)  # (B, D, D, *S)
    j = [[slopes[:, c, d] + (1.0 if c == d else 0.0) for d in range(dims)] for c in range(dims)]
    if dims == 1:
        determinant = j[0][0]
    elif dims == 2:
        determinant = j[0][0] * j[1][1] - j[0][1] * j[1][0]
    else:
        determinant = (
            j[0][0] * (j[1][1] * j[2][2] - j[1][2] * j[2][1])
            - j[0][1] * (j[1][0] * j[2][2] - j[1][2] * j[2][0])
            + j[0][2] * (j[1][0] * j[2][1] - j[1][1] * j[2][0])
        )
    return determinant.unsqueeze(1)


def _displacement_at(points: Tensor, displacement: Tensor, border: str) -> Tensor:
    """The displacement (B, N, D) at points (B, N, D)."""
    return linear_sample(displacement, points.transpose(1, 2), border=border).transpose(1, 2)


class _NoSecondDerivative(torch.autograd.Function):
    """The identity on a gradient, whose own gradient is refused."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor) -> Tensor:
        """Pass the gradient on."""
        return grad.view_as(grad)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        """Refuse."""
        raise NotImplementedError("warp_points with direction='inverse' has no second derivative")


class _ImplicitPoints(torch.autograd.Function):
    """Solutions y of y + u(y) = p, with the gradient of the implicit function to p and to u(y)."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, sampled: Tensor, field: Tensor, solution: Tensor, border: str) -> Tensor:
        """Hand on the solution."""
        ctx.save_for_backward(field, solution)
        ctx.border = border
        return solution.view_as(solution)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Solve (I + Du)^T a = g; then dL/dp = a and dL/d(u(y)) = -a."""
        field, solution = ctx.saved_tensors
        with torch.no_grad():
            slopes = sample_slopes(field, solution.transpose(1, 2), border=ctx.border).movedim(3, 1)  # (B, N, D, D)
            identity = torch.eye(slopes.shape[-1], dtype=slopes.dtype, device=slopes.device)
            transposed = (identity + slopes).transpose(2, 3)
            adjoint = torch.linalg.solve_ex(transposed, grads[0].unsqueeze(-1)).result.squeeze(-1)
        adjoint = _NoSecondDerivative.apply(adjoint.requires_grad_(grads[0].requires_grad))
        return adjoint, -adjoint, None, None, None


@float32_inside("points", "displacement")
def warp_points(
    points: Tensor,
    displacement: Tensor,
    *,
    direction: str,
    border: str = "clamp",
    max_iterations: int = 30,
    tolerance: float = 1e-3,
) -> Tensor | tuple[Tensor, Tensor]:
    """Move points along a displacement or against it; see :func:`medsynth_ext.ops.warp_points`."""
    if direction == "forward":
        return points + _displacement_at(points, displacement, border)
    with torch.no_grad():
        target, field = points.detach(), displacement.detach()
        solution, done = target.clone(), torch.zeros(points.shape[:2], dtype=torch.bool, device=points.device)
        may_stop = not points.is_cuda and not in_graph()  # stopping early asks for a value
        for _ in range(max_iterations):
            proposal = target - _displacement_at(solution, field, border)
            arrived = (proposal - solution).abs().amax(2) <= tolerance
            # A point stays where it arrived, so that its value does not depend on the others in the batch.
            solution = torch.where(done.unsqueeze(2), solution, proposal)
            done = done | arrived
            if may_stop and bool(done.all()):
                break
    if not (torch.is_grad_enabled() and (points.requires_grad or displacement.requires_grad)):
        return solution, done  # TorchScript has no place for the autograd function
    sampled = _displacement_at(solution, displacement, border)
    return _ImplicitPoints.apply(points, sampled, field, solution, border), done
