"""Inputs of the benchmarks: ragged blob labels and smooth random fields, the same for every peer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["label_map", "smooth_noise", "velocity"]


def smooth_noise(size: Sequence[int], nodes: int, seed: int, amplitude: float = 1.0) -> Tensor:
    """A random volume of few nodes, interpolated, with the given largest value."""
    generator = torch.Generator().manual_seed(seed)
    grid = torch.randn(1, 1, *[nodes] * len(size), generator=generator)
    noise = F.interpolate(grid, size=tuple(size), mode="trilinear", align_corners=True)[0, 0]
    return amplitude * noise / noise.abs().max()


def label_map(n: int, labels: int, seed: int = 0) -> Tensor:  # (n, n, n) int32
    """Labels 1..labels-1 by the nearest of random seeds inside an ellipsoid, ragged by smooth noise; 0 outside."""
    generator = torch.Generator().manual_seed(seed)
    z, y, x = torch.meshgrid(*[torch.linspace(-1, 1, n)] * 3, indexing="ij")
    place = [axis + smooth_noise((n, n, n), 12, seed + 1 + i, 0.15) for i, axis in enumerate((z, y, x))]
    seeds = (torch.rand(labels - 1, 3, generator=generator) * 2 - 1) * 0.75
    nearest = torch.full((n, n, n), torch.inf)
    result = torch.zeros(n, n, n, dtype=torch.int32)
    for label, seed_point in enumerate(seeds.tolist(), start=1):
        distance = sum((p - s) ** 2 for p, s in zip(place, seed_point, strict=True))
        closer = distance < nearest
        nearest[closer] = distance[closer]
        result[closer] = label
    result[(z / 0.9) ** 2 + (y / 0.95) ** 2 + (x / 0.8) ** 2 > 1] = 0
    return result


def velocity(n: int, *, nodes: int = 10, amplitude: float = 4.0, seed: int = 3) -> Tensor:  # (1, 3, n, n, n)
    """A smooth stationary velocity field in voxels."""
    nodes = min(nodes, n)
    return torch.stack([smooth_noise((n, n, n), nodes, seed + i, amplitude) for i in range(3)])[None].contiguous()
