"""Plain PyTorch twin of the mesh family: closed surfaces to voxels, and the surface integral as their gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from medsynth_ext.ops._precision import float32_inside
from medsynth_ext.ops.reference._sampling import linear_sample

__all__ = ["voxelize_mesh"]

_OFFSET = (1.3e-4, 2.1e-4)  # of the columns from the voxel centres, so that they miss the edges of regular meshes


def _ranges(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The integers of every range [low, high), one after the other, and the number of the range that each is in."""
    count = (high - low).clamp_min(0)
    owner = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
    first = torch.cumsum(count, 0) - count
    return torch.arange(len(owner), device=count.device) - first[owner] + low[owner], owner


def _crossings(verts: Tensor, faces: Tensor, shape: Sequence[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where the columns of voxels pass through the triangles: face, i, j, and the first voxel above the surface.

    A column is inside a triangle when a ray from it crosses one of the edges. Each edge is cut from its lower end, in
    float64, whichever triangle asks: neighbours agree to the last bit, and a closed surface has no holes.
    """
    x, y, z = verts.double().unbind(-1)
    first = (x - _OFFSET[0]).ceil().nan_to_num(0).clamp(0, shape[0]).long()
    row = first[faces]  # a corner is above the rows below this one
    known = verts[faces].isfinite().flatten(1).all(1)
    i, face = _ranges(row.amin(1), torch.where(known, row.amax(1), 0))
    ends = faces[face][:, [[0, 1], [1, 2], [2, 0]]]  # (N, 3 edges, 2)
    above = row[face][:, [[0, 1], [1, 2], [2, 0]]] > i[:, None, None]
    a, b = torch.where(above[..., :1], ends.flip(-1), ends).unbind(-1)  # from below the row to above it
    cut = above[..., 0] != above[..., 1]  # two of the three edges
    t = ((i[:, None] + _OFFSET[0] - x[a]) / (x[b] - x[a])).clamp(0, 1)
    at_y, at_z = ((v[a] + (v[b] - v[a]) * t)[cut].view(-1, 2) for v in (y, z))
    column = (at_y - _OFFSET[1]).ceil().clamp(0, shape[1]).long()
    column, order = column.sort(dim=1, stable=True)
    (y0, y1), (z0, z1) = (v.gather(1, order).unbind(1) for v in (at_y, at_z))
    j, span = _ranges(*column.unbind(1))
    t = ((j + _OFFSET[1] - y0[span]) / (y1 - y0)[span]).clamp(0, 1)
    height = z0[span] + (z1 - z0)[span] * t
    return face[span], i[span], j, height.ceil().clamp(0, shape[2]).long()


def _inside(
    verts: Tensor, faces: Tensor, part: Tensor, n_parts: int, shape: Sequence[int]
) -> tuple[Tensor, Tensor]:  # (B, n_parts, *shape) bool, (B, n_parts) int64
    """What is inside each part, and how many of its columns cross its faces an odd number of times."""
    size = (n_parts, shape[0], shape[1], shape[2] + 1)
    toggles = torch.zeros(len(verts), math.prod(size), dtype=torch.int64, device=verts.device)
    for b, corners in enumerate(verts):
        face, i, j, k = _crossings(corners, faces, shape)
        cell = ((part[face] * size[1] + i) * size[2] + j) * size[3] + k
        toggles[b].index_add_(0, cell, torch.ones_like(cell))
    odd = toggles.view(len(verts), *size).cumsum(-1) % 2 == 1
    return odd[..., :-1], odd[..., -1].sum((2, 3))


def _first_owner(inside: Tensor, priority: Sequence[int]) -> Tensor:  # (B, n_parts, *shape) bool
    """The same with every voxel left to the first of its parts."""
    taken = torch.zeros_like(inside[:, 0])
    owned = torch.empty_like(inside)
    for p in priority:
        owned[:, p] = inside[:, p] & ~taken
        taken = taken | inside[:, p]
    return owned


def _pull(grad: Tensor, inside: Tensor, priority: Sequence[int]) -> Tensor:  # (B, n_parts, *shape)
    """What the loss gains per voxel that a part gains.

    Nothing where a part that comes first has the voxel; else the part's own gradient, less that of the part which loses
    the voxel.
    """
    result = torch.zeros_like(grad)
    loser = torch.zeros_like(grad[:, 0])  # gradient of the first part that has the voxel, of those still to come
    for p in reversed(priority):
        result[:, p] = grad[:, p] - loser
        loser = torch.where(inside[:, p], grad[:, p], loser)
    taken = torch.zeros_like(inside[:, 0])
    for p in priority:
        result[:, p].masked_fill_(taken, 0)
        taken = taken | inside[:, p]
    return result


def _surface_integral(pull: Tensor, verts: Tensor, faces: Tensor, part: Tensor) -> Tensor:  # (B, V, 3)
    """dL/dv = sum over faces and three points of (1/3) phi_v pull n, n the area vector that points outwards.

    Outside is where the signed volume of the whole part says.
    """
    size = torch.tensor(pull.shape[2:], device=pull.device)
    first, second, third = verts[:, faces].unbind(2)
    area = torch.linalg.cross(second - first, third - first) / 2
    volume = pull.new_zeros(pull.shape[:2]).index_add(1, part, ((first - size / 2) * area).sum(-1))
    area = area * torch.where(volume < 0, -1.0, 1.0)[:, part, None]
    phi = torch.full((3, 3), 1 / 6, dtype=pull.dtype, device=pull.device).fill_diagonal_(2 / 3)
    points = torch.einsum("qc,bfcd->bdfq", phi, verts[:, faces])
    seen = ((points >= -0.5) & (points < size[:, None, None] - 0.5)).all(1)  # within a voxel of the grid
    value = torch.zeros_like(seen, dtype=pull.dtype)
    for p in range(pull.shape[1]):
        of_part = part == p
        value[:, of_part] = linear_sample(pull[:, p, None], points[:, :, of_part])[:, 0]
    share = torch.einsum("bfq,qc->bfc", torch.where(seen, value, 0.0), phi) / 3
    force = share[..., None] * area[:, :, None]
    return torch.zeros_like(verts).index_add(1, faces.flatten(), force.flatten(1, 2))


class _Voxelize(torch.autograd.Function):
    """Occupancy (B, n_parts, *shape) in the dtype of verts, and open columns (B, n_parts)."""

    @staticmethod
    def forward(
        ctx: Any,
        verts: Tensor,
        faces: Tensor,
        part: Tensor,
        n_parts: int,
        shape: Sequence[int],
        priority: Sequence[int],
    ) -> tuple[Tensor, Tensor]:
        inside, odd = _inside(verts, faces, part, n_parts, shape)
        ctx.save_for_backward(verts, faces, part, inside)
        ctx.priority = priority
        ctx.mark_non_differentiable(odd)
        return (_first_owner(inside, priority) if priority else inside).to(verts.dtype), odd

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        verts, faces, part, inside = ctx.saved_tensors
        pull = _pull(grad, inside, ctx.priority) if ctx.priority else grad
        return _surface_integral(pull.double(), verts.double(), faces, part).to(verts.dtype), *[None] * 5


@float32_inside("verts")
def voxelize_mesh(
    verts: Tensor,
    faces: Tensor,
    *,
    shape: Sequence[int],
    part: Tensor | None = None,
    n_parts: int = 1,
    priority: Sequence[int] | None = None,
    slice_index: int | Tensor | None = None,
    grad: str = "surface",
    return_open: bool = False,
    out: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Parity along the columns of voxels; see :func:`medsynth_ext.ops.voxelize_mesh`."""
    faces = faces.long()
    part = torch.zeros_like(faces[:, 0]) if part is None else part.long()
    result, odd = _Voxelize.apply(verts, faces, part, n_parts, tuple(shape), tuple(priority or ()))
    if slice_index is not None:
        index = torch.as_tensor(slice_index, device=verts.device).expand(len(verts))
        places = index.view(-1, 1, 1, 1, 1).expand(*result.shape[:-1], 1)
        result = result.gather(-1, places).squeeze(-1)
    if grad == "none":
        result = result.to(torch.uint8)
    result = result if out is None else out.copy_(result)
    return (result, odd) if return_open else result
