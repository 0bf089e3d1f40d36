"""Putting the simulator's heart into a generated volume, slice by slice."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["blend_volumes", "poisson_slices"]


def blend_volumes(image: Tensor, heart_image: Tensor, heart: Tensor, *, mode: str) -> Tensor:
    """Blend ``heart_image`` into ``image`` where ``heart`` is 1; all (B, 1, X, Y, Z).

    Args:
        image: background.
        heart_image: foreground.
        heart: mask, 0 or 1.
        mode: ``alpha`` (take the values) or ``poisson`` (take the differences; Perez et al., SIGGRAPH 2003).

    Raises:
        ValueError: for another mode.
    """
    if mode == "alpha":
        return heart * heart_image + (1 - heart) * image
    if mode != "poisson":
        raise ValueError(f"mode must be 'alpha' or 'poisson', got {mode!r}")
    slices = [v.movedim(4, 1).flatten(0, 2) for v in (image, heart_image, heart)]  # (B Z, X, Y)
    blended = poisson_slices(*slices)
    batch, _, x, y, z = image.shape
    return blended.view(batch, z, 1, x, y).movedim(1, 4).clamp(-1, 1)


def poisson_slices(
    background: Tensor,  # (B, X, Y)
    foreground: Tensor,  # (B, X, Y)
    mask: Tensor,  # (B, X, Y) 0 or 1
    *,
    tolerance: float = 1e-4,
    max_iterations: int = 500,
) -> Tensor:  # (B, X, Y)
    """Solve ``Laplacian f = Laplacian foreground`` inside the mask with ``f = background`` outside.

    Conjugate gradients on ``f - foreground``, which is harmonic inside, for all slices at once. The image ends with
    mirrored values, so a mask may touch its border.

    Args:
        background: values on and outside the mask's border.
        foreground: whose differences are kept.
        mask: where to solve.
        tolerance: residual's norm that ends the iterations, relative to that at the start.
        max_iterations: bound on the iterations.
    """
    inside = mask > 0.5
    offset = torch.where(inside, 0.0, background - foreground).double()  # boundary values of f - foreground
    residual = torch.where(inside, _laplacian(offset), 0.0)
    correction = torch.zeros_like(offset)
    direction = residual.clone()
    square = residual.square().sum((1, 2))
    goal = square * tolerance**2
    for _ in range(max_iterations):
        if bool((square <= goal).all()):
            break
        image = torch.where(inside, -_laplacian(direction), 0.0)
        curvature = (direction * image).sum((1, 2))
        step = torch.where(curvature > 0, square / curvature.clamp_min(1e-300), 0.0)[:, None, None]
        correction += step * direction
        residual -= step * image
        new = residual.square().sum((1, 2))
        direction = residual + (new / square.clamp_min(1e-300))[:, None, None] * direction
        square = new
    return torch.where(inside, (foreground + correction).to(background.dtype), background)


def _laplacian(f: Tensor) -> Tensor:
    """Sum of the differences to the four neighbours, without those beyond the border."""
    total = torch.zeros_like(f)
    for axis in (1, 2):
        difference = f.diff(dim=axis)
        total.narrow(axis, 0, f.shape[axis] - 1).add_(difference)
        total.narrow(axis, 1, f.shape[axis] - 1).sub_(difference)
    return total
