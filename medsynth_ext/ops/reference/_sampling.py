"""Linear and nearest sampling at index coordinates, shared by the twins: the rules of ``csrc/diffeo/sampling.h``."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["AxisSample", "index_grid", "linear_sample", "nearest_sample", "sample_axis", "sample_slopes"]


@dataclass(frozen=True)
class AxisSample:
    """The two voxels of an axis between which a location falls, and their weights; all of one shape."""

    low: Tensor  # int64, in range
    high: Tensor  # int64, in range
    weight_low: Tensor
    weight_high: Tensor
    slope_low: Tensor  # derivatives of the weights to the location
    slope_high: Tensor


def index_grid(size: tuple[int, ...], like: Tensor) -> Tensor:
    """The index coordinates of every voxel of a grid, (D, *size), in the dtype and on the device of ``like``."""
    axes = [torch.arange(n, dtype=like.dtype, device=like.device) for n in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")) if axes else like.new_zeros((0,))


def _fold(q: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Reflect locations about 0 and n-1; the folded location and the sign of its derivative."""
    sign = torch.where(q < 0, -1.0, 1.0).to(q.dtype)
    q = torch.where(q < 0, -q, q)
    if n == 1:
        return torch.where(q.isfinite(), torch.zeros_like(q), torch.full_like(q, math.nan)), torch.zeros_like(q)
    q = torch.where(q > 2 * (n - 1), torch.fmod(q, 2 * (n - 1)), q)
    sign = torch.where(q > n - 1, -sign, sign)
    return torch.where(q > n - 1, 2 * (n - 1) - q, q), sign


def sample_axis(q: Tensor, n: int, border: str) -> AxisSample:
    """Where locations ``q`` fall on an axis of ``n`` voxels; differentiable in ``q`` through the weights."""
    known = q.isfinite() | (q.isinf() if border != "reflect" else False)
    if border == "zeros":
        inside = (q > -1) & (q < n)
        floor = torch.where(inside, q.detach(), 0).floor()
        has_low, has_high = inside & (floor >= 0), inside & (floor < n - 1)
        w = torch.where(inside, q, 0) - floor
        nought, one = torch.zeros_like(floor), torch.ones_like(floor)
        weights = torch.where(has_low, 1 - w, nought), torch.where(has_high, w, nought)
        slopes = torch.where(has_low, -one, nought), torch.where(has_high, one, nought)
        low, high = floor.long().clamp(0, n - 1), (floor.long() + 1).clamp(0, n - 1)
    else:
        if border == "clamp":
            slope = ((q >= 0) & (q <= n - 1)).to(q.dtype) * (n > 1)
            q = q.clamp(0, n - 1)
        else:
            q, slope = _fold(q, n)
        low = torch.nan_to_num(q.detach()).long().clamp(0, max(n - 2, 0))
        high = (low + 1).clamp(max=n - 1)
        w = q - low.to(q.dtype)
        weights, slopes = (1 - w, w), (-slope, slope)
    values = [torch.where(known, value, math.nan) for value in (*weights, *slopes)]
    return AxisSample(low, high, *values)


def _corner_sum(values: Tensor, axes: list[AxisSample], sloped: int | None) -> Tensor:
    """Sum over the 2**D corners of value times weights; axis ``sloped`` takes the weights' derivatives."""
    batch, channels, *size = values.shape
    out_size = axes[0].low.shape[1:]
    batch = max(batch, axes[0].low.shape[0]) if batch and axes[0].low.shape[0] else 0
    flat = values.expand(batch, *values.shape[1:]).reshape(batch, channels, math.prod(size))
    total = values.new_zeros((batch, channels, *out_size))
    for corner in itertools.product((False, True), repeat=len(size)):
        index = torch.zeros_like(axes[0].low)
        weight = torch.ones_like(axes[0].weight_low)
        for d, (upper, axis) in enumerate(zip(corner, axes, strict=True)):
            index = index * size[d] + (axis.high if upper else axis.low)
            if d == sloped:
                weight = weight * (axis.slope_high if upper else axis.slope_low)
            else:
                weight = weight * (axis.weight_high if upper else axis.weight_low)
        lookup = index.reshape(index.shape[0], 1, math.prod(out_size)).expand(batch, channels, math.prod(out_size))
        total = total + flat.gather(2, lookup).reshape(total.shape) * weight.unsqueeze(1)
    return total


def _all_axes(values: Tensor, locations: Tensor, border: str) -> list[AxisSample]:
    return [sample_axis(locations[:, d], n, border) for d, n in enumerate(values.shape[2:])]


def linear_sample(
    values: Tensor,  # (B or 1, C, *S)
    locations: Tensor,  # (B or 1, D, *So) index coordinates
    *,
    border: str = "clamp",
) -> Tensor:  # (B, C, *So)
    """Linear interpolation of ``values`` at ``locations``; differentiable in both. NaN locations give NaN."""
    return _corner_sum(values, _all_axes(values, locations, border), None)


def sample_slopes(
    values: Tensor,  # (B or 1, C, *S)
    locations: Tensor,  # (B or 1, D, *So) index coordinates
    *,
    border: str = "clamp",
) -> Tensor:  # (B, C, D, *So)
    """The derivative of :func:`linear_sample` to each component of the location."""
    axes = _all_axes(values, locations, border)
    return torch.stack([_corner_sum(values, axes, d) for d in range(len(axes))], dim=2)


def nearest_sample(
    values: Tensor,  # (B or 1, C, *S), any dtype
    locations: Tensor,  # (B or 1, D, *So) index coordinates
    *,
    border: str = "clamp",
    fill: float = 0.0,
) -> Tensor:  # (B, C, *So)
    """The voxel nearest to each location, half to even; ``fill`` outside when the border is zeros.

    NaN locations give NaN in float images; in integer ones they count as outside (zeros) or as voxel 0.
    """
    batch, channels, *size = values.shape
    out_size = locations.shape[2:]
    batch = max(batch, locations.shape[0]) if batch and locations.shape[0] else 0
    index = torch.zeros_like(locations[:, 0], dtype=torch.int64)
    outside = torch.zeros_like(locations[:, 0], dtype=torch.bool)
    for d, n in enumerate(size):
        r = locations[:, d].round()
        if border == "zeros":
            outside = outside | ~((r >= 0) & (r <= n - 1))
        r = _fold(r, n)[0] if border == "reflect" else r
        index = index * n + torch.nan_to_num(r.clamp(0, n - 1)).long()
    flat = values.expand(batch, *values.shape[1:]).reshape(batch, channels, math.prod(size))
    lookup = index.reshape(index.shape[0], 1, math.prod(out_size)).expand(batch, channels, math.prod(out_size))
    result = flat.gather(2, lookup).reshape(batch, channels, *out_size)
    result = torch.where(outside.unsqueeze(1), torch.as_tensor(fill, dtype=values.dtype, device=values.device), result)
    if values.dtype.is_floating_point:
        result = torch.where(locations.isnan().any(1, keepdim=True), math.nan, result)
    return result
