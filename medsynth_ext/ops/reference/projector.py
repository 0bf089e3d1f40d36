"""Plain PyTorch twins of the projector family."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from medsynth_ext.ops._precision import float32_inside

if TYPE_CHECKING:
    from medsynth_ext.ops.ct_geometry import CTGeometry

__all__ = ["ct_adjoint", "ct_backproject", "ct_forward"]


def _view_weights(geometry: CTGeometry, view: int, model: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Pixel, voxel and weight of every entry of one view's rows of A, in float64 and cast at the end."""
    size, det, spacing, center = geometry.padded()
    n = torch.tensor(size[::-1])  # along x, y, z
    step, middle = torch.tensor(spacing, dtype=torch.float64), torch.tensor(center, dtype=torch.float64)
    start, d, u, v = (part[view] for part in geometry.frames())
    row = torch.arange(det[0], dtype=torch.float64)[:, None, None] - (det[0] - 1) / 2
    col = torch.arange(det[1], dtype=torch.float64)[None, :, None] - (det[1] - 1) / 2
    pixels = (d + row * v + col * u).view(-1, 3)

    def voxels(place: Tensor) -> Tensor:
        return (place - middle) / step + (n - 1) / 2

    if geometry.diverging:
        origin, w = voxels(start).expand_as(pixels), (pixels - start) / step
    else:
        origin, w = voxels(pixels), (start / step).expand_as(pixels)
    main = torch.where(
        (w[:, 0].abs() >= w[:, 1].abs()) & (w[:, 0].abs() >= w[:, 2].abs()),
        0,
        torch.where(w[:, 1].abs() >= w[:, 2].abs(), 1, 2),
    )
    strides = torch.tensor([1, size[2], size[1] * size[2]])
    entries = []
    for axis in range(3):
        rays = (main == axis).nonzero()[:, 0]
        if not rays.numel():
            continue
        a, b = [o for o in range(3) if o != axis]
        k = torch.arange(int(n[axis]), dtype=torch.float64)  # (K,)
        wm = w[rays, axis, None]
        t = (k - origin[rays, axis, None]) / wm  # (R, K)
        length = (w[rays] * step).norm(dim=1, keepdim=True) / wm.abs()
        front = (t > 0) if geometry.diverging else torch.ones_like(t, dtype=torch.bool)
        places = _joseph if model == "joseph" else _siddon
        for shares in places(origin[rays], w[rays], k, t, axis, a, b):
            ia, ib, share = shares
            good = front & (ia >= 0) & (ia < n[a]) & (ib >= 0) & (ib < n[b]) & (share != 0)
            voxel = k.long() * strides[axis] + ia * strides[a] + ib * strides[b]
            entries.append((rays[:, None].expand_as(good)[good], voxel[good], (share * length)[good]))
    if not entries:
        none = torch.zeros(0, dtype=torch.int64)
        return none, none, torch.zeros(0, dtype=dtype)
    pixel, voxel, weight = (torch.cat(part) for part in zip(*entries, strict=True))
    return pixel, voxel, weight.to(dtype)


def _joseph(origin: Tensor, w: Tensor, k: Tensor, t: Tensor, axis: int, a: int, b: int) -> list[tuple[Tensor, ...]]:
    """The four neighbours of each crossing and their bilinear weights."""
    fa, fb = (origin[:, i, None] + t * w[:, i, None] for i in (a, b))
    ia, ib = fa.floor(), fb.floor()
    va, vb = fa - ia, fb - ib
    ia, ib = ia.long(), ib.long()
    return [
        (ia, ib, (1 - va) * (1 - vb)),
        (ia, ib + 1, (1 - va) * vb),
        (ia + 1, ib, va * (1 - vb)),
        (ia + 1, ib + 1, va * vb),
    ]


def _siddon(origin: Tensor, w: Tensor, k: Tensor, t: Tensor, axis: int, a: int, b: int) -> list[tuple[Tensor, ...]]:
    """The voxels that a ray meets in each slice, and the share of the slice's length in each of them."""
    enter, leave = ((k + side - origin[:, axis, None]) / w[:, axis, None] for side in (-0.5, 0.5))
    shares, cells = [], []
    for i in (a, b):
        first, last = (origin[:, i, None] + x * w[:, i, None] for x in (enter, leave))
        c0 = (first + 0.5).floor()
        c1 = c0 + ((last + 0.5).floor() - c0).clamp(-1, 1)
        wall = torch.maximum(c0, c1) - 0.5
        share = torch.where(c0 == c1, 1.0, ((wall - first) / (last - first)).clamp(0, 1))
        shares.append(share)
        cells.append((c0.long(), c1.long()))
    (a0, a1), (b0, b1) = cells
    ta, tb = shares
    return [
        (a0, b0, torch.minimum(ta, tb)),
        (a0, b1, (ta - tb).clamp_min(0)),
        (a1, b0, (tb - ta).clamp_min(0)),
        (a1, b1, 1 - torch.maximum(ta, tb)),
    ]


def _sizes(geometry: CTGeometry) -> tuple[int, int]:
    size, det = geometry.padded()[:2]
    return size[0] * size[1] * size[2], det[0] * det[1]


@float32_inside("vol")
def ct_forward(vol: Tensor, geometry: CTGeometry, *, model: str = "joseph", out: Tensor | None = None) -> Tensor:
    """One sparse matrix per view; see :func:`medsynth_ext.ops.ct_forward`."""
    voxels, pixels = _sizes(geometry)
    lead = vol.shape[: vol.ndim - geometry.dims]
    flat = vol.reshape(-1, voxels)
    views = []
    for view in range(geometry.views):
        pixel, voxel, weight = (x.to(vol.device) for x in _view_weights(geometry, view, model, vol.dtype))
        views.append(flat.new_zeros(flat.shape[0], pixels).index_add(1, pixel, flat[:, voxel] * weight))
    result = torch.stack(views, 1).reshape(*lead, *geometry.proj_shape)
    return result if out is None else out.copy_(result)


@float32_inside("proj")
def ct_adjoint(proj: Tensor, geometry: CTGeometry, *, model: str = "joseph", out: Tensor | None = None) -> Tensor:
    """The transposes of those matrices; see :func:`medsynth_ext.ops.ct_adjoint`."""
    voxels, pixels = _sizes(geometry)
    lead = proj.shape[: proj.ndim - geometry.dims]
    flat = proj.reshape(-1, geometry.views, pixels)
    result = flat.new_zeros(flat.shape[0], voxels)
    for view in range(geometry.views):
        pixel, voxel, weight = (x.to(proj.device) for x in _view_weights(geometry, view, model, proj.dtype))
        result = result.index_add(1, voxel, flat[:, view, pixel] * weight)
    result = result.reshape(*lead, *geometry.vol_shape)
    return result if out is None else out.copy_(result)


@float32_inside("proj")
def ct_backproject(
    proj: Tensor, geometry: CTGeometry, *, weight: str = "none", scale: Tensor | None = None, out: Tensor | None = None
) -> Tensor:
    """Voxel by voxel through the projection matrices; see :func:`medsynth_ext.ops.ct_backproject`."""
    size, det, spacing, center = geometry.padded()
    lead = proj.shape[: proj.ndim - geometry.dims]
    flat = proj.reshape(-1, geometry.views, det[0] * det[1])
    axes = [
        c + (torch.arange(n, dtype=torch.float64, device=proj.device) - (n - 1) / 2) * s
        for n, s, c in zip(size[::-1], spacing, center, strict=True)
    ]
    z, y, x = torch.meshgrid(axes[2], axes[1], axes[0], indexing="ij")
    points = torch.stack([x, y, z, torch.ones_like(x)]).view(4, -1)
    matrices = geometry.projection_matrices().to(proj.device)
    factors = torch.ones(geometry.views) if scale is None else scale
    result = flat.new_zeros(flat.shape[0], points.shape[1])
    for view in range(geometry.views):
        u, v, depth = matrices[view] @ points
        front = depth > 0
        depth = torch.where(front, depth, 1.0)
        share = front.double()
        if weight == "fdk" and geometry.diverging:
            assert geometry.orbit is not None
            unit = geometry.orbit.source_detector_mm / geometry.orbit.source_origin_mm  # type: ignore[operator]
            share = share / (depth * unit) ** 2
        u, v = u / depth, v / depth
        value = torch.zeros_like(result)
        for du in (0, 1):
            for dv in (0, 1):
                col, row = u.floor() + du, v.floor() + dv
                part = (1 - (u - col).abs()) * (1 - (v - row).abs()) * share
                good = (col >= 0) & (col < det[1]) & (row >= 0) & (row < det[0])
                pixel = torch.where(good, row * det[1] + col, 0.0).long()
                value = value + flat[:, view, pixel] * torch.where(good, part, 0.0).to(proj.dtype)
        result = result + value * factors[view].to(proj)
    result = result.reshape(*lead, *geometry.vol_shape)
    return result if out is None else out.copy_(result)
