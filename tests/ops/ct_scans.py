"""Scans and exact line integrals that the CT tests share."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medsynth_ext.ops import CTGeometry


def turn(views: int, arc: float = 2 * math.pi, first: float = 0.1) -> Tensor:
    """Equidistant angles; none of them along an axis."""
    return first + torch.arange(views, dtype=torch.float64) * arc / views


def scans() -> dict[str, CTGeometry]:
    """Small scans of every kind: odd sizes, anisotropic, off centre, fine and coarse detectors, close sources."""
    fan = {"source_origin_mm": 60.0, "source_detector_mm": 90.0}
    result = {
        "parallel2d": CTGeometry.parallel2d(turn(9, math.pi), 41, 1.0, (25, 31)),
        "parallel2d along the axes": CTGeometry.parallel2d([0.0, math.pi / 2, math.pi], 37, 1.0, (20, 30)),
        "parallel2d anisotropic": CTGeometry.parallel2d(
            turn(7, math.pi), 70, 0.7, (25, 31), spacing_mm=(1.3, 0.8), center_mm=(2.0, -1.0), offset_mm=0.3
        ),
        "fan2d": CTGeometry.fan2d(turn(8), 61, 1.5, (33, 29), **fan),
        "fan2d close": CTGeometry.fan2d(turn(8), 101, 2.5, (33, 29), source_origin_mm=26.0, source_detector_mm=60.0),
        "fan2d coarse": CTGeometry.fan2d(turn(5), 21, 6.0, (33, 29), **fan),
        "fan2d fine": CTGeometry.fan2d(turn(5), 301, 0.3, (33, 29), offset_mm=1.0, **fan),
        "parallel3d": CTGeometry.parallel3d(turn(5, math.pi), (9, 12), (1.2, 0.9), (7, 9, 11)),
        "cone3d": CTGeometry.cone3d(
            turn(7),
            (20, 23),
            (1.5, 1.2),
            (11, 12, 13),
            source_origin_mm=80.0,
            source_detector_mm=110.0,
            spacing_mm=(1.0, 1.1, 0.8),
            center_mm=(0.5, 1.0, -2.0),
        ),
        "cone3d steep": CTGeometry.cone3d(
            turn(5), (70, 23), (1.5, 1.2), (18, 12, 13), source_origin_mm=16.0, source_detector_mm=24.0
        ),
        "cone3d one row": CTGeometry.cone3d(
            turn(3), (1, 17), 1.5, (3, 8, 8), source_origin_mm=40.0, source_detector_mm=60.0
        ),
        "cone3d one view": CTGeometry.cone3d(
            [0.3], (17, 1), 1.5, (8, 8, 8), source_origin_mm=40.0, source_detector_mm=60.0
        ),
    }
    cone = result["cone3d"]
    vectors = cone.vectors.view(7, 4, 3).clone()
    vectors[:, 3] *= -1  # rows run downwards
    vectors[:, 0, 2] += torch.linspace(-8, 8, 7)  # the source moves along z
    vectors[:, 1, 2] += torch.linspace(-8, 8, 7)
    result["helical, turned rows"] = CTGeometry("cone3d", vectors.flatten(1), (20, 23), (11, 12, 13), 1.0)
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(7, 12, generator=generator, dtype=torch.float64) * torch.tensor([3.0] * 6 + [0.2] * 6)
    result["any vectors"] = CTGeometry("cone3d", cone.vectors + noise, (20, 23), (11, 12, 13), (1.0, 1.1, 0.8))
    parallel = result["parallel3d"]
    noise = torch.randn(5, 12, generator=generator, dtype=torch.float64) * 0.2
    result["any parallel vectors"] = CTGeometry("parallel3d", parallel.vectors + noise, (9, 12), (7, 9, 11), 1.0)
    return result


def make(geometry: CTGeometry, dtype: torch.dtype = torch.float64, batch: tuple[int, ...] = (2,)):
    """Random volumes and projections."""
    generator = torch.Generator().manual_seed(7)
    x = torch.rand(*batch, *geometry.vol_shape, generator=generator, dtype=torch.float64).to(dtype)
    return x, torch.rand(*batch, *geometry.proj_shape, generator=generator, dtype=torch.float64).to(dtype)


def ellipsoid_lines(geometry: CTGeometry, center: tuple[float, ...], axes: tuple[float, ...]) -> Tensor:
    """Exact line integrals (views, *det_shape) through an ellipsoid of value 1, in mm (x, y[, z])."""
    start, d, u, v = geometry.frames()
    rows, cols = geometry.padded()[1]
    row = torch.arange(rows, dtype=torch.float64)[:, None, None] - (rows - 1) / 2
    col = torch.arange(cols, dtype=torch.float64)[:, None] - (cols - 1) / 2
    pixel = d[:, None, None] + row * v[:, None, None] + col * u[:, None, None]
    origin = start[:, None, None].expand_as(pixel) if geometry.diverging else pixel
    w = pixel - origin if geometry.diverging else start[:, None, None].expand_as(pixel)
    half = torch.tensor([*axes, 1e9][:3], dtype=torch.float64)
    o, s = (origin - torch.tensor([*center, 0.0][:3], dtype=torch.float64)) / half, w / half
    a, b, c = (s * s).sum(-1), (o * s).sum(-1), (o * o).sum(-1) - 1
    chord = 2 * (b * b - a * c).clamp_min(0).sqrt() / a * w.norm(dim=-1)
    return chord.reshape(geometry.proj_shape)


def ellipsoid(geometry: CTGeometry, center: tuple[float, ...], axes: tuple[float, ...], fine: int = 4) -> Tensor:
    """The ellipsoid as a volume, by shares of voxels."""
    grids = []
    for n, s, c in zip(geometry.vol_shape, geometry.spacing_mm[::-1], geometry.center_mm[::-1], strict=True):
        grids.append(c + ((torch.arange(n * fine, dtype=torch.float64) + 0.5) / fine - n / 2) * s)
    total = torch.zeros([len(g) for g in grids], dtype=torch.float64)
    for d, (grid, c, a) in enumerate(zip(grids, center[::-1], axes[::-1], strict=True)):
        shape = [1] * len(grids)
        shape[d] = -1
        total = total + (((grid - c) / a) ** 2).view(shape)
    pool = torch.nn.functional.avg_pool2d if len(grids) == 2 else torch.nn.functional.avg_pool3d
    return pool((total < 1).double()[None, None], fine)[0, 0]
