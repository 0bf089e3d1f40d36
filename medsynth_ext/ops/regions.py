"""Points from the regions of a probability map: threshold, opening, components and their statistics; all exact.

Everything is integer arithmetic up to the last division, so that the results are the same on every device.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from medsynth_ext.ops import reference
from medsynth_ext.ops._checks import check_float, in_graph, use_kernel
from medsynth_ext.ops._precision import widened

__all__ = [
    "RegionStats",
    "binary_dilation",
    "binary_erosion",
    "binary_opening",
    "connected_components",
    "otsu_threshold",
    "quantize_probability",
    "region_stats",
    "split_regions",
]

_CONNECTIVITY = {2: (1,), 4: (2,), 8: (2,), 6: (3,), 26: (3,)}
_WHOLE_Y, _WHOLE_X, _UNCUT = 0, 1, 2
_CACHED = 1 << 15  # float64 numbers that a core keeps at hand between the passes over them


class RegionStats(NamedTuple):
    """Sums over regions, in label order; all zeros for a label that does not occur.

    Divide by ``area`` for the centroid. The box is half open and empty (its first beyond its last) without pixels.
    """

    area: Tensor  # (B, R)
    sum_y: Tensor  # (B, R)
    sum_x: Tensor  # (B, R)
    sum_q: Tensor  # (B, R)
    max_q: Tensor  # (B, R)
    bbox: Tensor  # (B, R, 4): y0, x0, y1, x1


def quantize_probability(
    prob: Tensor,  # any shape
) -> Tensor:  # uint8
    """``floor(255 clip(p, 0, 1) + 0.5)``, in float64 so that no rounding mode changes it; NaN counts as 0.

    >>> quantize_probability(torch.tensor([0.0, 0.5, 2.0, float("nan")])).tolist()
    [0, 128, 255, 0]
    """
    prob = widened(prob)
    check_float("prob", prob)
    levels = torch.empty(prob.shape, dtype=torch.uint8, device=prob.device)
    flat = prob.detach().reshape(-1)
    piece = _CACHED if flat.device.type == "cpu" else max(flat.numel(), 1)
    for part, out in zip(flat.split(piece), levels.view(-1).split(piece), strict=True):
        out.copy_(part.double().nan_to_num_(nan=0.0).clamp_(0, 1).mul_(255).add_(0.5).floor_())
    return levels


def otsu_threshold(
    prob: Tensor,  # (B, 1, *S), or its levels as uint8
    *,
    min_peak: float = 0.0,
) -> tuple[Tensor, Tensor]:  # (B,) uint8, (B, 1, *S) bool
    """Otsu's threshold of every map, and what lies above it.

    On the 256 levels ``q`` of :func:`quantize_probability`: the smallest ``t`` with the largest variance between
    ``q <= t`` and ``q > t``. A map of one level has no threshold and an empty mask. Otsu splits noise too: maps whose
    maximum is below ``min_peak`` have an empty mask. Levels that are there already need not be made again.

    >>> otsu_threshold(torch.tensor([[[0.0, 0.1, 0.9, 1.0]]]))[1].tolist()
    [[[False, False, True, True]]]
    """
    q = prob if prob.dtype == torch.uint8 else quantize_probability(prob)
    if q.ndim < 3 or q.shape[1] != 1 or not q.numel():
        raise ValueError(f"prob must be (B, 1, *S) with at least one voxel, got {tuple(prob.shape)}")
    level = torch.arange(256, device=q.device)
    histogram = _histograms(q.flatten(1))
    count, total = histogram.sum(1, keepdim=True), (histogram * level).sum(1, keepdim=True)
    n0, s0 = histogram.cumsum(1), (histogram * level).cumsum(1)
    n1 = count - n0
    between = (s0 * count - total * n0).double() ** 2
    score = torch.where((n0 > 0) & (n1 > 0), between / (n0 * n1).clamp(min=1).double(), -1.0)
    best = score.amax(1, keepdim=True)
    threshold = torch.where(score == best, level, 256).amin(1)
    threshold = torch.where(best[:, 0] >= 0, threshold, 255).to(torch.uint8)
    high = best[:, 0] >= 0
    if min_peak > 0:
        values = q.double() / 255 if prob.dtype == torch.uint8 else prob.detach().nan_to_num(nan=-math.inf)
        high &= values.flatten(1).amax(1) >= min_peak
    above = (q.flatten(1) > threshold[:, None]) & high[:, None]
    return threshold, above.view(q.shape)


def _histograms(q: Tensor) -> Tensor:  # (B, N) uint8 to (B, 256) int64
    if q.device.type == "cpu":
        return torch.stack([torch.bincount(row, minlength=256) for row in q])
    bins = q.long() + 256 * torch.arange(len(q), device=q.device)[:, None]
    counts = torch.zeros(256 * len(q), dtype=torch.int64, device=q.device)
    return counts.index_add_(0, bins.view(-1), torch.ones_like(bins).view(-1)).view(-1, 256)


def binary_dilation(
    mask: Tensor,  # (B, C, *S) bool
    k: int = 3,
) -> Tensor:  # (B, C, *S) bool
    """Whether any voxel of the cube of ``k`` voxels a side is set; outside the image none is.

    >>> binary_dilation(torch.tensor([[[True, False, False]]])).tolist()
    [[[True, True, False]]]
    """
    _check_mask(mask, k)
    result = mask
    for axis in range(2, mask.ndim):
        source, result = result, result.clone()
        n = mask.shape[axis]
        for step in range(1, min(k // 2, n - 1) + 1):
            result.narrow(axis, step, n - step).logical_or_(source.narrow(axis, 0, n - step))
            result.narrow(axis, 0, n - step).logical_or_(source.narrow(axis, step, n - step))
    return result


def binary_erosion(
    mask: Tensor,  # (B, C, *S) bool
    k: int = 3,
) -> Tensor:  # (B, C, *S) bool
    """Whether all voxels of the cube of ``k`` voxels a side are set; those outside the image count as set.

    >>> binary_erosion(torch.tensor([[[True, True, False]]])).tolist()
    [[[True, False, False]]]
    """
    _check_mask(mask, k)
    return ~binary_dilation(~mask, k)


def binary_opening(
    mask: Tensor,  # (B, C, *S) bool
    k: int = 3,
) -> Tensor:  # (B, C, *S) bool
    """Erosion, then dilation: takes away what is thinner than ``k`` voxels."""
    return binary_dilation(binary_erosion(mask, k), k)


def connected_components(
    mask: Tensor,  # (B, C, *S) bool
    *,
    connectivity: int | None = None,
) -> Tensor:  # (B, C, *S) int32
    """Labels 1, 2, ... of the connected regions of every map, in the raster order of their first voxels; 0 elsewhere.

    Args:
        mask: regions.
        connectivity: 2 in 1D; 4 or 8 in 2D; 6 or 26 in 3D. By default neighbours share at least a corner.

    >>> connected_components(torch.tensor([[[True, False, True, True]]])).tolist()
    [[[1, 0, 2, 2]]]
    """
    _check_mask(mask, 1)
    axes = mask.ndim - 2
    allowed = [c for c, dims in _CONNECTIVITY.items() if axes in dims]
    if connectivity is not None and connectivity not in allowed:
        raise ValueError(f"connectivity must be one of {allowed} for {axes} spatial axes, got {connectivity}")
    full = connectivity is None or connectivity == allowed[-1]
    flat = mask.flatten(0, 1)
    labels = torch.ops.medsynth_ext.connected_components if use_kernel(mask) else reference.connected_components
    return labels(flat, full).reshape(mask.shape)


def region_stats(
    labels: Tensor,  # (B, 1, H, W) int32
    q: Tensor,  # (B, 1, H, W) uint8
    *,
    max_regions: int = 256,
) -> RegionStats:
    """Area, sums of coordinates and values, largest value and box of the regions 1..``max_regions``; int64, exact.

    >>> labels = torch.tensor([[[[1, 1, 0, 2]]]], dtype=torch.int32)
    >>> stats = region_stats(labels, torch.full((1, 1, 1, 4), 7, dtype=torch.uint8), max_regions=2)
    >>> stats.area.tolist(), stats.sum_x.tolist(), stats.bbox[0, 1].tolist()
    ([[2, 1]], [[1, 3]], [0, 3, 1, 4])
    """
    _check_labels(labels, q, max_regions)
    table = _sums(labels, q, None, max_regions)
    area, sum_y, sum_x, sum_q, _, _, max_q = table[..., :7].unbind(-1)
    return RegionStats(area, sum_y, sum_x, sum_q, max_q, table[..., 7:])


def split_regions(
    labels: Tensor,  # (B, 1, H, W) int32
    q: Tensor,  # (B, 1, H, W) uint8
    *,
    kappa: float = 1.5,
    single_area: float | None = None,
    min_area: int = 0,
    max_points: int = 256,
    weighted: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # (B, K, 2), (B, K), (B,) int64, (B,) bool
    """Centroids of regions, of those much larger than the average of two parts (Yao et al., AdaptOR at MICCAI 2021).

    A region larger than ``kappa`` times the mean area of the image's regions is cut once, at its centroid: by a line of
    constant y where its box is taller than wide, else of constant x. Pixels before the centroid make the first part.

    Args:
        labels: regions, numbered as :func:`connected_components` does.
        q: map values of 0 to 255.
        kappa: 1 as published; 1.5 splits fewer single points.
        single_area: pixels of the region of one point, in place of the mean; the mean is of no use where most regions
            are of two points.
        min_area: smaller regions give no point (they count for the mean).
        max_points: K; of more points the first are given.
        weighted: centroids of the points weighted by q instead of all alike; the cut stays where it is.

    Returns:
        Points in float64 (y, x), in label order, first parts first, padded with NaN; scores, the means of q over 255,
        padded with -inf; how many; whether there were more.
    """
    _check_labels(labels, q, max_points)
    if not kappa > 0 or min_area < 0:
        raise ValueError(f"kappa must be positive and min_area not negative, got {kappa} and {min_area}")
    if single_area is not None and not single_area > 0:
        raise ValueError(f"single_area must be positive or None, got {single_area}")
    flat = labels.flatten(1)
    regions = flat.amax(1).long()  # (B,)
    table = _sums(labels, q, None, max_points)
    area = table[..., 0]
    if single_area is None:
        big = (area * regions[:, None]).double() > kappa * _foreground(flat, area, regions)[:, None].double()
    else:
        big = area.double() > kappa * single_area
    tall = table[..., 9] - table[..., 7] > table[..., 10] - table[..., 8]
    way = torch.where(big, torch.where(tall, _WHOLE_Y, _WHOLE_X), _UNCUT)
    cut = torch.stack([way, area, table[..., 1], table[..., 2]], dim=-1)
    parts = _sums(labels, q, cut, max_points)  # (B, 2 R, 11)
    large_enough = (area >= max(min_area, 1)).repeat_interleave(2, 1)
    exists = (parts[..., 0] > 0) & large_enough
    order = torch.sort((~exists).to(torch.int8), dim=1, stable=True).indices[:, :max_points]
    parts = parts.gather(1, order[..., None].expand(-1, -1, parts.shape[-1])).double()
    total = exists.sum(1)
    count = total.clamp(max=max_points)
    beyond = torch.arange(order.shape[1], device=labels.device) >= count[:, None]
    sums, weight = (parts[..., 4:6], parts[..., 3]) if weighted else (parts[..., 1:3], parts[..., 0])
    points = (sums / weight[..., None]).masked_fill(beyond[..., None], math.nan)
    score = (parts[..., 3] / (255 * parts[..., 0])).masked_fill(beyond, -math.inf)
    return points, score, count, (total > max_points) | (regions > max_points)


def _foreground(flat: Tensor, area: Tensor, regions: Tensor) -> Tensor:  # (B,) pixels of all regions
    if flat.device.type == "cpu" and not in_graph() and not bool((regions > area.shape[1]).any()):
        return area.sum(1)
    return (flat > 0).sum(1)  # the table lacks the regions beyond its end


def _sums(labels: Tensor, q: Tensor, cut: Tensor | None, regions: int) -> Tensor:
    sums = torch.ops.medsynth_ext.region_sums if use_kernel(labels) else reference.region_sums
    return sums(labels[:, 0], q[:, 0], cut, regions)


def _check_mask(mask: Tensor, k: int) -> None:
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        raise TypeError(f"mask must be a bool tensor, got {getattr(mask, 'dtype', type(mask).__name__)}")
    if not 3 <= mask.ndim <= 5:
        raise ValueError(f"mask must be (B, C, *S) with one to three spatial axes, got {tuple(mask.shape)}")
    if k < 1 or k % 2 == 0:
        raise ValueError(f"k must be odd and positive, got {k}")


def _check_labels(labels: Tensor, q: Tensor, most: int) -> None:
    for name, tensor, dtype in (("labels", labels, torch.int32), ("q", q, torch.uint8)):
        if not isinstance(tensor, Tensor) or tensor.dtype != dtype:
            raise TypeError(f"{name} must be a {dtype} tensor, got {getattr(tensor, 'dtype', type(tensor).__name__)}")
    if labels.ndim != 4 or labels.shape[1] != 1 or not labels[0:1].numel():
        raise ValueError(f"labels must be (B, 1, H, W), none empty, got {tuple(labels.shape)}")
    if q.shape != labels.shape:
        raise ValueError(f"q must have the shape of labels, {tuple(labels.shape)}, got {tuple(q.shape)}")
    if q.device != labels.device:
        raise RuntimeError(f"q is on {q.device}, but labels is on {labels.device}; move one of them")
    if most < 1:
        raise ValueError(f"the largest number of regions must be at least 1, got {most}")


if use_kernel(torch.empty(0)):

    @torch.library.register_fake("medsynth_ext::connected_components")
    def _components_fake(mask: Tensor, full: bool) -> Tensor:
        return mask.new_empty(mask.shape, dtype=torch.int32)

    @torch.library.register_fake("medsynth_ext::region_sums")
    def _sums_fake(labels: Tensor, q: Tensor, cut: Tensor | None, regions: int, *_: Any) -> Tensor:
        rows = regions if cut is None else 2 * regions
        return labels.new_empty((labels.shape[0], rows, 11), dtype=torch.int64)
