"""Plain PyTorch twin of the blur family."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from medsynth_ext.ops._precision import float32_inside

__all__ = ["gaussian_blur"]


def _source(position: Tensor, n: int, border: str) -> tuple[Tensor, Tensor]:
    """The voxel that a position outside the image stands for, and whether it counts."""
    if border == "reflect":  # about the centres of the first and last voxel
        period = max(2 * n - 2, 1)
        position = position.remainder(period)
        position = torch.where(position >= n, period - position, position)
    inside = (position >= 0) & (position < n)
    counts = inside if border == "zeros" else torch.ones_like(inside)
    return position.clamp(0, n - 1), counts


def _blur_matrix(n: int, sigma: float, truncate: float, border: str) -> Tensor:
    """The (n, n) float64 matrix of one axis."""
    r = math.ceil(truncate * sigma)
    offset = torch.arange(-r, r + 1)
    weight = torch.exp(-0.5 * (offset.double() / sigma) ** 2)
    weight = weight / weight.sum()
    source, counts = _source(torch.arange(n)[:, None] + offset, n, border)
    return torch.zeros(n, n, dtype=torch.float64).scatter_add_(1, source, weight * counts)


@float32_inside("x")
def gaussian_blur(
    x: Tensor,
    sigma: float | Sequence[float] | Tensor,
    *,
    truncate: float = 3.0,
    border: str = "replicate",
    out: Tensor | None = None,
) -> Tensor:
    """One dense matrix per sample and axis, in float64; see :func:`medsynth_ext.ops.gaussian_blur`."""
    axes = x.ndim - 2
    sigmas = torch.as_tensor(sigma, dtype=torch.float64).expand(x.shape[0], axes).tolist()
    samples = []
    for b, of_axis in enumerate(sigmas):
        sample = x[b].double()  # (C, *S)
        for d, s in enumerate(of_axis):
            if s > 0 and sample.numel():
                matrix = _blur_matrix(sample.shape[d + 1], s, truncate, border).to(x.device)
                sample = torch.tensordot(sample, matrix, dims=([d + 1], [1])).movedim(-1, d + 1)
        samples.append(sample)
    result = torch.stack(samples).to(x.dtype) if samples else x.clone()
    return result if out is None else out.copy_(result)
