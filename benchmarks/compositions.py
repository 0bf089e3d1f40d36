"""The plain PyTorch compositions that the operators are held against: what a user writes without the extension."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "affine_svf_warp",
    "along_axes",
    "blur",
    "corner_matrix",
    "corner_resize",
    "identity",
    "integrate",
    "integrate_normalised",
    "interior",
    "kernel",
    "unit_identity",
    "warp",
]


@cache
def identity(n: int, device: torch.device) -> Tensor:  # (1, 3, n, n, n)
    """Voxel coordinates."""
    axis = torch.arange(n, dtype=torch.float32, device=device)
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))[None]


@cache
def unit_identity(n: int, device: torch.device) -> Tensor:  # (1, n, n, n, 3)
    """The identity as grid_sample wants it: last axis first, from -1 to 1."""
    return (identity(n, device) * (2.0 / (n - 1)) - 1).permute(0, 2, 3, 4, 1).flip(-1).contiguous()


def _grid(coordinates: Tensor) -> Tensor:
    """grid_sample's grid of voxel coordinates in a volume of equal edges."""
    n = coordinates.shape[-1]
    return (coordinates * (2.0 / (n - 1)) - 1).permute(0, 2, 3, 4, 1).flip(-1)


def warp(image: Tensor, displacement: Tensor, mode: str = "bilinear") -> Tensor:
    """``image(x + displacement(x))``."""
    grid = _grid(identity(image.shape[-1], image.device) + displacement)
    return F.grid_sample(image, grid, mode=mode, padding_mode="border", align_corners=True)


def integrate(velocity: Tensor, steps: int = 7) -> Tensor:
    """Scaling and squaring."""
    displacement = velocity / 2**steps
    for _ in range(steps):
        displacement = displacement + warp(displacement, displacement)
    return displacement


def integrate_normalised(velocity: Tensor, steps: int = 7) -> Tensor:
    """The same with the displacement kept in grid_sample's units, so that no step rescales it."""
    n = velocity.shape[-1]
    scale = 2.0 / (n - 1)
    same = unit_identity(n, velocity.device)
    unit = velocity.flip(1) * (scale / 2**steps)
    for _ in range(steps):
        grid = same + unit.permute(0, 2, 3, 4, 1)
        unit = unit + F.grid_sample(unit, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return unit.flip(1) / scale


def corner_matrix(n_in: int, n_out: int, device: torch.device) -> Tensor:  # (n_out, n_in)
    """Linear resize of one axis by the corner rule ``q = i * n_in / n_out``."""
    q = (torch.arange(n_out, dtype=torch.float64) * n_in / n_out).clamp(0, n_in - 1)
    low = q.floor().long().clamp(max=max(n_in - 2, 0))
    rows, weight = torch.arange(n_out), q - low
    matrix = torch.zeros(n_out, n_in, dtype=torch.float64)
    matrix[rows, low] += 1 - weight
    matrix[rows, (low + 1).clamp(max=n_in - 1)] += weight
    return matrix.float().to(device)


def corner_resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Linear resize by the corner rule with grid_sample."""
    axes = []
    for n_in, n_out in zip(x.shape[2:], size, strict=True):
        q = (torch.arange(n_out, dtype=torch.float32, device=x.device) * n_in / n_out).clamp(0, n_in - 1)
        axes.append(q * (2.0 / max(n_in - 1, 1)) - 1)
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], -1).expand(x.shape[0], *size, 3)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=True)


def affine_svf_warp(labels: Tensor, matrix: Tensor, displacement: Tensor, mode: str = "nearest") -> Tensor:
    """Sample at ``M (x + d(x))``: the coarse field resized to the volume, the matrix applied, one grid_sample."""
    n = labels.shape[-1]
    where = identity(n, labels.device) + corner_resize(displacement, (n, n, n))
    q = torch.einsum("bij,bjdhw->bidhw", matrix[:, :, :3], where) + matrix[:, :, 3, None, None, None]
    return F.grid_sample(labels, _grid(q), mode=mode, padding_mode="border", align_corners=True)


def along_axes(x: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """One dense (n_out, n_in) matrix an axis."""
    for d, matrix in enumerate(matrices):
        x = torch.tensordot(x, matrix, dims=([2 + d], [1])).movedim(-1, 2 + d)
    return x


def kernel(sigma: float, truncate: float, device: torch.device) -> Tensor:
    """The taps of a sampled Gaussian that sum to one."""
    r = math.ceil(truncate * sigma)
    taps = torch.exp(-0.5 * (torch.arange(-r, r + 1, dtype=torch.float64) / sigma) ** 2)
    return (taps / taps.sum()).float().to(device)


def blur(x: Tensor, sigma: Sequence[float], truncate: float = 3.0) -> Tensor:
    """Separable Gaussian blur, one conv3d an axis, borders replicated."""
    for d, s in enumerate(sigma):
        taps = kernel(s, truncate, x.device)
        r = len(taps) // 2
        pad = [0] * 6
        pad[2 * (2 - d)] = pad[2 * (2 - d) + 1] = r
        shape = [1] * 5
        shape[2 + d] = -1
        x = F.conv3d(F.pad(x, pad, mode="replicate"), taps.view(shape))
    return x


def interior(x: Tensor, share: float = 0.125) -> Tensor:
    """The middle of a volume: other packages treat the border differently."""
    m = max(1, int(x.shape[-1] * share))
    return x[..., m:-m, m:-m, m:-m]
