"""Plain PyTorch twins of the warping operators: a location per voxel, then one sample."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from medsynth_ext.ops._precision import float32_inside
from medsynth_ext.ops.reference._sampling import index_grid, linear_sample, nearest_sample, sample_axis
from medsynth_ext.ops.reference.resampling import axis_locations

__all__ = ["affine_svf_warp", "lab2im_matrix", "warp", "warp_labels"]


@float32_inside("linear")
def lab2im_matrix(linear: Tensor, size: Sequence[int]) -> Tensor:
    """The matrix (..., D, D+1) of ``q = A (w - c) + c`` with ``c = (size - 1) / 2``."""
    centre = (torch.as_tensor(tuple(size), dtype=linear.dtype, device=linear.device) - 1) / 2
    shift = centre - (linear * centre).sum(-1)
    return torch.cat([linear, shift.unsqueeze(-1)], dim=-1)


def _vote(labels: Tensor, locations: Tensor, border: str, fill: int) -> Tensor:
    """The label with the largest sum of linear weights; ties go to the smallest label."""
    batch, _, *size = labels.shape
    out_size = locations.shape[2:]
    axes = [sample_axis(torch.nan_to_num(locations[:, d]), n, border) for d, n in enumerate(size)]
    batch = max(batch, locations.shape[0]) if batch and locations.shape[0] else 0
    flat = labels.expand(batch, *labels.shape[1:]).reshape(batch, math.prod(size))
    found, weights = [], []
    for corner in itertools.product((False, True), repeat=len(size)):
        index = torch.zeros_like(axes[0].low)
        weight = torch.ones_like(axes[0].weight_low)
        for upper, axis, n in zip(corner, axes, size, strict=True):
            index = index * n + (axis.high if upper else axis.low)
            weight = weight * (axis.weight_high if upper else axis.weight_low)
        lookup = index.reshape(index.shape[0], -1).expand(batch, math.prod(out_size))
        found.append(flat.gather(1, lookup).reshape(batch, *out_size))
        weights.append(weight.expand(batch, *out_size))
    if border == "zeros":  # what is missing to one lies outside
        found.append(torch.full_like(found[0], fill))
        weights.append(1 - torch.stack(weights).sum(0))
    values, shares = torch.stack(found), torch.stack(weights)
    sums = torch.stack([((values == v) * shares).sum(0) for v in values])
    best = sums >= sums.amax(0) - 1e-12 if sums.dtype == torch.float64 else sums >= sums.amax(0)
    winner = torch.where(best, values.long(), torch.iinfo(torch.int64).max).amin(0).to(labels.dtype)
    lost = locations.isnan().any(1)
    first = nearest_sample(labels, torch.nan_to_num(locations), border=border, fill=fill)[:, 0]
    return torch.where(lost, torch.full_like(winner, fill) if border == "zeros" else first, winner).unsqueeze(1)


def _sample(values: Tensor, locations: Tensor, mode: str, border: str, fill: float) -> Tensor:
    if mode == "vote":
        return _vote(values, locations, border, int(fill))
    if mode == "nearest":
        return nearest_sample(values, locations, border=border, fill=fill)
    if border == "zeros" and fill != 0:
        return linear_sample(values - fill, locations, border=border) + fill
    return linear_sample(values, locations, border=border)


@float32_inside("img", "disp")
def warp(img: Tensor, disp: Tensor, *, mode: str = "linear", border: str = "clamp", fill: float = 0.0) -> Tensor:
    """``y(x) = img(x + disp(x))``; see :func:`medsynth_ext.ops.warp`."""
    return _sample(img, index_grid(tuple(disp.shape[2:]), disp) + disp, mode, border, fill)


@float32_inside("labels", "disp")
def warp_labels(labels: Tensor, disp: Tensor, *, mode: str = "nearest", border: str = "clamp", fill: int = 0) -> Tensor:
    """The same for integer labels (B, 1, *S); see :func:`medsynth_ext.ops.warp_labels`."""
    return _sample(labels, index_grid(tuple(disp.shape[2:]), disp) + disp, mode, border, fill)


@float32_inside("src", "matrix", "disp")
def affine_svf_warp(
    src: Tensor,
    matrix: Tensor,
    disp: Tensor | None = None,
    *,
    out_shape: Sequence[int],
    out_origin: Sequence[int] | None = None,
    grid_shape: Sequence[int] | None = None,
    disp_rule: str = "same",
    mode: str = "nearest",
    border: str = "clamp",
    fill: float = 0.0,
) -> Tensor:
    """Sample ``src`` at ``M[:, :D] (x + d(x)) + M[:, D]``; see :func:`medsynth_ext.ops.affine_svf_warp`."""
    dims = matrix.shape[1]
    origin = matrix.new_tensor(tuple(out_origin or (0,) * dims)).reshape(1, dims, *[1] * dims)
    window = index_grid(tuple(out_shape), matrix)[None]
    voxel = window + origin
    moved = voxel
    if disp is not None:
        where = voxel if grid_shape is not None else window
        full = tuple(grid_shape or out_shape)
        if disp_rule != "same":
            pairs = enumerate(zip(disp.shape[2:], full, strict=True))
            where = torch.stack([axis_locations(n, m, disp_rule, where[:, d]) for d, (n, m) in pairs], dim=1)
        moved = voxel + linear_sample(disp, where)
    linear = matrix[:, :, :dims].reshape(-1, dims, dims, *[1] * dims)
    q = (linear * moved.unsqueeze(1)).sum(2)
    return _sample(src, q + matrix[:, :, dims].reshape(-1, dims, *[1] * dims), mode, border, fill)
