"""Plain PyTorch twins of the moments of heatmaps: float64, differentiable."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from medsynth_ext.ops._precision import widened

__all__ = ["heatmap_moments", "in_millimetres", "mean_and_cov", "soft_argmax"]


def _window_mask(h: Tensor, window: int) -> Tensor:
    """Voxels of a map within ``window`` of the first of its largest ones along every axis."""
    clean = torch.where(h.isnan(), -math.inf, h.detach()).flatten()
    index = int((clean == clean.max()).nonzero()[0])
    at = torch.unravel_index(torch.tensor(index), h.shape)
    mask = torch.ones_like(h, dtype=torch.bool)
    for d, i in enumerate(at):
        near = (torch.arange(h.shape[d], device=h.device) - int(i)).abs() <= window
        mask &= near.reshape([-1 if e == d else 1 for e in range(h.ndim)])
    return mask


def _density_moments(
    maps: Tensor,  # (N, *S)
    *,
    softmax: bool,
    beta: float = 1.0,
    threshold: float = -math.inf,
    window: int = 0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mass (N), mean (N, D), covariance (N, D, D), third central moments (N, D, D, D), all float64."""
    size = maps.shape[1:]
    axes = [torch.arange(n, dtype=torch.float64, device=maps.device) for n in size]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, len(size))  # (V, D)
    results = []
    for h in maps.double():
        counts = _window_mask(h, window) if window else torch.ones_like(h, dtype=torch.bool)
        values = h[counts]
        if softmax:
            weight = torch.exp(beta * (values - values.detach().max()))
        else:
            weight = torch.where((values < threshold) | (values <= 0), 0, values)
        r = grid[counts.flatten()]
        mass = weight.sum()
        share = weight / mass
        mean = share @ r
        v = r - mean
        cov = torch.einsum("i,ia,ib->ab", share, v, v)
        third = torch.einsum("i,ia,ib,ic->abc", share, v, v, v)
        results.append((mass, mean, cov, third))
    d = len(size)
    shapes = ((), (d,), (d, d), (d, d, d))
    if not results:
        empty = [maps.new_zeros((0, *shape), dtype=torch.float64) for shape in shapes]
        return empty[0], empty[1], empty[2], empty[3]
    mass, mean, cov, third = (torch.stack(parts) for parts in zip(*results, strict=True))
    return mass, mean, cov, third


def mean_and_cov(
    mean: Tensor,  # (B, N, D)
    cov: Tensor,  # (B, N, D, D)
    size: Sequence[int],
    dtype: torch.dtype,
    *,
    normalised: bool,
    return_cov: bool,
) -> Tensor | tuple[Tensor, Tensor]:
    """The results of soft_argmax from float64 moments in voxels."""
    if normalised:
        scale = 2 / mean.new_tensor(size)
        mean = (mean + 0.5) * scale - 1
        cov = cov * scale[:, None] * scale
    return (mean.to(dtype), cov.to(dtype)) if return_cov else mean.to(dtype)


def soft_argmax(
    h: Tensor,
    *,
    beta: float | Tensor | None = 1.0,
    window: int | None = None,
    return_cov: bool = False,
    normalised: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """See :func:`medsynth_ext.ops.soft_argmax`."""
    h = widened(h)
    scaled = h if beta is None else h.double() * beta
    _, mean, cov, _ = _density_moments(scaled.flatten(0, 1), softmax=beta is not None, window=window or 0)
    shape, size = h.shape[:2], h.shape[2:]
    return mean_and_cov(
        mean.unflatten(0, shape), cov.unflatten(0, shape), size, h.dtype, normalised=normalised, return_cov=return_cov
    )


def in_millimetres(
    moments: tuple[Tensor, Tensor, Tensor, Tensor],
    spacing: Tensor,  # (D,)
    origin: Tensor,  # (D,)
    eps: float,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The results of heatmap_moments from float64 moments in voxels."""
    mass, mean, cov, third = moments
    mass = mass * spacing.prod()
    valid = mass.detach() >= eps  # false for NaN
    centroid = torch.where(valid[:, None], mean * spacing + origin, math.nan)
    cov = torch.where(valid[:, None, None], cov * spacing[:, None] * spacing, math.nan)
    vectors = torch.linalg.eigh(torch.where(valid[:, None, None], cov.detach(), 0)).eigenvectors
    largest = vectors.abs().argmax(1, keepdim=True)
    vectors = vectors * vectors.gather(1, largest).sign()
    along = vectors * spacing[:, None]
    skew = torch.einsum("nabc,nak,nbk,nck->nk", third.detach(), along, along, along)
    skew = torch.where(valid[:, None], skew, math.nan)
    return mass.to(dtype), centroid.to(dtype), cov.to(dtype), skew.to(dtype), valid


def heatmap_moments(
    p: Tensor,
    spacing: float | Sequence[float] = 1.0,
    origin: float | Sequence[float] = 0.0,
    *,
    threshold: float = 0.0,
    eps: float = 1e-12,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """See :func:`medsynth_ext.ops.heatmap_moments`."""
    p = widened(p)
    steps, start = (torch.tensor(v, dtype=torch.float64, device=p.device).expand(p.ndim - 1) for v in (spacing, origin))
    return in_millimetres(_density_moments(p, softmax=False, threshold=threshold), steps, start, eps, p.dtype)
