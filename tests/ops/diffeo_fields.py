"""Smooth random fields for the tests of the diffeo family."""

from __future__ import annotations

import torch
from torch import Tensor

BORDERS = ("clamp", "zeros", "reflect")
SIZES = ((17,), (9, 13), (1, 6), (6, 7, 9), (1, 5, 4), (5, 1, 4), (5, 4, 1), (1, 1, 1))


def smooth_field(
    size: tuple[int, ...], *, batch: int = 1, amplitude: float = 2.0, seed: int = 0, dtype: torch.dtype = torch.float64
) -> Tensor:
    """A field (B, D, *size): normal numbers on a coarse grid, interpolated linearly."""
    generator = torch.Generator().manual_seed(seed)
    coarse = [max(2, n // 4) if n > 1 else 1 for n in size]
    values = torch.randn(batch, len(size), *coarse, generator=generator, dtype=torch.float64) * amplitude
    mode = ("linear", "bilinear", "trilinear")[len(size) - 1]
    return torch.nn.functional.interpolate(values, size, mode=mode, align_corners=True).to(dtype)


def linear_field(matrix: Tensor, size: tuple[int, ...]) -> Tensor:
    """The field ``A (x - c)`` about the grid's centre, (1, D, *size)."""
    axes = [torch.arange(n, dtype=matrix.dtype) - (n - 1) / 2 for n in size]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    return torch.einsum("cd,d...->c...", matrix, grid)[None]


def inside(field: Tensor, margin: int) -> Tensor:
    """The field without ``margin`` voxels at every face."""
    return field[(..., *[slice(margin, n - margin) for n in field.shape[2:]])]
