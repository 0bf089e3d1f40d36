"""Closed meshes for the tests of the mesh family: vertices (V, 3) in float64 and faces (F, 3), oriented outwards."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def box(low: tuple[float, float, float], high: tuple[float, float, float]) -> tuple[Tensor, Tensor]:
    """A box of 12 triangles."""
    verts = torch.cartesian_prod(*[torch.tensor(ends, dtype=torch.float64) for ends in zip(low, high, strict=True)])
    squares = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [corners for a, b, c, d in squares for corners in ((a, b, c), (a, c, d))]
    return verts, torch.tensor(faces)


def sphere(around: int = 24, rings: int = 15) -> tuple[Tensor, Tensor]:
    """The unit sphere in ``2 * around * rings`` triangles."""
    polar = torch.arange(1, rings + 1, dtype=torch.float64) * math.pi / (rings + 1)
    turn = torch.arange(around, dtype=torch.float64) * 2 * math.pi / around
    ring = torch.stack(
        [polar.sin()[:, None] * turn.cos(), polar.sin()[:, None] * turn.sin(), polar.cos()[:, None].expand(-1, around)],
        -1,
    )
    poles = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]], dtype=torch.float64)
    north, south, faces = around * rings, around * rings + 1, []
    for s in range(around):
        t = (s + 1) % around
        faces += [(north, s, t), (south, (rings - 1) * around + t, (rings - 1) * around + s)]
        for r in range(0, (rings - 1) * around, around):
            faces += [(r + s, r + s + around, r + t), (r + t, r + s + around, r + t + around)]
    return torch.cat([ring.reshape(-1, 3), poles]), torch.tensor(faces)


def ball(center: tuple[float, float, float], radius: float, **options: int) -> tuple[Tensor, Tensor]:
    """A sphere of a size at a place."""
    verts, faces = sphere(**options)
    return verts * radius + torch.tensor(center, dtype=torch.float64), faces


def joined(*meshes: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Several meshes as the parts of one: vertices, faces and the part of every face."""
    verts, faces, part, first = [], [], [], 0
    for number, (v, f) in enumerate(meshes):
        verts.append(v)
        faces.append(f + first)
        part.append(torch.full((len(f),), number))
        first += len(v)
    return torch.cat(verts), torch.cat(faces), torch.cat(part)


def winding_number(verts: Tensor, faces: Tensor, shape: tuple[int, int, int]) -> Tensor:  # (*shape)
    """How often the mesh winds round every voxel centre: the solid angles of its faces over 4 pi."""
    points = torch.cartesian_prod(*[torch.arange(n, dtype=torch.float64) for n in shape])
    a, b, c = (verts[faces[:, k]] - points[:, None] for k in range(3))  # (N, F, 3)
    la, lb, lc = a.norm(dim=-1), b.norm(dim=-1), c.norm(dim=-1)
    over = (a * torch.linalg.cross(b, c)).sum(-1)
    under = la * lb * lc + (a * b).sum(-1) * lc + (b * c).sum(-1) * la + (c * a).sum(-1) * lb
    return (2 * torch.atan2(over, under)).sum(1).reshape(shape) / (4 * math.pi)


def hearts(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Two samples of two overlapping parts, partly outside small grids: verts (2, V, 3), faces, part."""
    verts, faces, part = joined(ball((10.2, 9.7, 11.1), 7.3), ball((15.0, 12.0, 8.0), 6.1, around=9, rings=4))
    return torch.stack([verts, 1.3 * verts - 4]).to(dtype), faces, part
