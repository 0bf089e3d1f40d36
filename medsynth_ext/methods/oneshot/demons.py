"""Log-domain diffeomorphic demons on a pyramid (Vercauteren et al., MICCAI 2007 and 2008)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medsynth_ext import ops

__all__ = ["demons_force", "log_demons"]


def demons_force(
    fixed: Tensor,  # (1, 1, *S)
    warped: Tensor,  # (1, 1, *S)
    *,
    max_step: float,
) -> Tensor:  # (1, D, *S)
    """The update of the symmetric demons in voxels, at most ``max_step`` long.

    ``u = 2 r g / (|g|^2 + r^2 / K)`` with ``r = fixed - warped``, g the sum of both gradients and ``K = max_step^2``; 0
    where ``|r| < 0.001`` or the denominator is below 1e-9.
    """
    residual = fixed - warped
    dims = list(range(2, fixed.ndim))
    slopes = torch.gradient((fixed + warped), dim=dims)
    g = torch.cat(list(slopes), dim=1)
    bottom = g.square().sum(1, keepdim=True) + residual.square() / max_step**2
    valid = (residual.abs() >= 1e-3) & (bottom >= 1e-9)
    return torch.where(valid, 2 * residual / bottom.clamp(min=1e-9), 0) * g


def log_demons(
    fixed: Tensor,  # (1, 1, *S)
    moving: Tensor,  # (1, 1, *S)
    *,
    iterations: Sequence[int] = (30, 20, 10),
    max_step: float = 0.5,
    fluid_sigma: float = 0.0,
    diffusion_sigma: float = 1.0,
    steps: int = 6,
) -> Tensor:  # (1, D, *S)
    """The stationary velocity, in voxels, whose flow ``s`` makes ``moving(s(x))`` look like ``fixed(x)``.

    Points of ``fixed`` go to ``moving`` by ``ops.integrate_svf`` of it, and back by that of its negative.

    Args:
        fixed: image, intensities of about [0, 1].
        moving: image of the same size, with matched intensities.
        iterations: from the coarsest level, half as large each, to the full size.
        max_step: longest update in voxels.
        fluid_sigma: blur of every update, in voxels; 0 for none.
        diffusion_sigma: blur of the velocity after every update, in voxels; 0 for none.
        steps: squarings of the integration.

    Raises:
        ValueError: for images of different sizes, or no level.
    """
    if fixed.shape != moving.shape or fixed.shape[:2] != (1, 1):
        raise ValueError(f"fixed and moving must be (1, 1, *S), got {tuple(fixed.shape)} and {tuple(moving.shape)}")
    if not iterations:
        raise ValueError("iterations must name at least one level")
    velocity: Tensor | None = None
    for level, count in enumerate(iterations):
        shrink = 2 ** (len(iterations) - 1 - level)
        size = [max(4, n // shrink) for n in fixed.shape[2:]]
        if shrink > 1:
            f, m = (ops.resample(ops.gaussian_blur(v, 0.5 * shrink), size, rule="half_pixel") for v in (fixed, moving))
        else:
            f, m = fixed, moving
        if velocity is None:
            velocity = f.new_zeros((1, len(size), *f.shape[2:]))
        else:
            velocity = ops.resize_field(velocity, f.shape[2:])
        for _ in range(count):
            warped = ops.warp(m, ops.integrate_svf(velocity, steps))
            update = demons_force(f, warped, max_step=max_step)
            if fluid_sigma > 0:
                update = ops.gaussian_blur(update, fluid_sigma)
            velocity = velocity + update
            if diffusion_sigma > 0:
                velocity = ops.gaussian_blur(velocity, diffusion_sigma)
    assert velocity is not None
    return velocity
