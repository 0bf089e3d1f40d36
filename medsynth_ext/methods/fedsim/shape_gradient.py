"""The gradient of voxels with respect to shape parameters by finite differences, as in the paper."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from medsynth_ext.methods.fedsim.shape_model import ShapeModel

__all__ = ["SHAPE_GRADIENTS", "finite_difference_steps", "heart_mask"]

SHAPE_GRADIENTS = ("surface", "fd")


def heart_mask(
    model: ShapeModel,
    t: Tensor,
    size: int,
    *,
    gradient: str = "surface",
    motion: float = 0.75,
    slice_index: Tensor | None = None,
) -> Tensor:
    """The union of all parts, (B, 1, X, Y, Z) or with ``slice_index`` (B, 1, X, Y), in {0, 1}.

    Args:
        model: decodes the parameters.
        t: (B, L + 7) shape parameters.
        size: voxels per side.
        gradient: ``surface`` (the exact derivative of the domain integral, one pass) or ``fd`` (central differences of
            voxelised shapes, two per parameter).
        motion: how far the farthest vertex moves in a difference, in voxels; a difference of less than half a voxel is
            dominated by the grid.
        slice_index: (B,) take only this slice of Z.

    Raises:
        ValueError: for another gradient.
    """
    if gradient not in SHAPE_GRADIENTS:
        raise ValueError(f"gradient must be one of {', '.join(SHAPE_GRADIENTS)}, got {gradient!r}")
    if gradient == "fd":
        return _FiniteDifference.apply(t, model, size, motion, slice_index)
    # Parts share no voxel, so their sum is the union, and the operator gives borders between parts no gradient.
    return model.occupancy(t, size, slice_index=slice_index).sum(1, keepdim=True)


@torch.no_grad()
def finite_difference_steps(
    model: ShapeModel, t: Tensor, size: int, *, motion: float = 0.75, limits: tuple[float, float] = (0.02, 0.2)
) -> Tensor:  # (B, L + 7)
    """Step of every parameter that moves the farthest vertex by ``motion`` voxels, within ``limits``.

    The motion is taken from the derivative, so that it is the same for a step up and a step down.
    """
    _, count = t.shape
    probe = 1e-3
    steps = []
    for j in range(count):
        shift = torch.zeros_like(t)
        shift[:, j] = probe
        change = model.vertices(t + shift) - model.vertices(t - shift)  # mm per 2 probe
        farthest = change.norm(dim=2).amax(1) * size / model.fov_mm / (2 * probe)  # voxels per unit of t
        steps.append(motion / farthest.clamp_min(1e-9))
    return torch.stack(steps, 1).clamp(*limits)


class _FiniteDifference(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, t: Tensor, model: ShapeModel, size: int, motion: float, index: Tensor | None) -> Tensor:
        ctx.save_for_backward(t)
        ctx.model, ctx.size, ctx.motion, ctx.index = model, size, motion, index
        return model.occupancy(t, size, slice_index=index).sum(1, keepdim=True)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (t,) = ctx.saved_tensors
        steps = finite_difference_steps(ctx.model, t, ctx.size, motion=ctx.motion)  # (B, P)
        result = torch.empty_like(t)
        for b in range(len(t)):
            shifts = torch.diag(steps[b])  # (P, P)
            index = None if ctx.index is None else ctx.index[b : b + 1].expand(len(shifts))
            up, down = (
                ctx.model.occupancy(t[b] + sign * shifts, ctx.size, slice_index=index).sum(1) for sign in (1, -1)
            )
            result[b] = ((up - down) * grad[b]).flatten(1).sum(1) / (2 * steps[b])
        return result, None, None, None, None
