"""Peaks of heatmaps: the largest voxel, local maxima, and their places below one voxel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from medsynth_ext.ops import reference
from medsynth_ext.ops._checks import check_float, one_of, use_kernel
from medsynth_ext.ops._precision import widened
from medsynth_ext.ops.blur import gaussian_blur

__all__ = ["heatmap_peak", "heatmap_peaks_maxpool", "heatmap_peaks_nms"]

_REFINE = ("none", "parabola", "log_parabola", "dark", "com")
_RULES = ("v1", "v2", "score")


def heatmap_peak(
    h: Tensor,  # (B, N, *S)
    *,
    refine: str = "none",
    window: int = 2,
    threshold: float | None = None,
    sigma: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:  # (B, N, D), (B, N), (B, N) bool
    """The largest voxel of every map and its place below one voxel; not differentiable, see :func:`soft_argmax`.

    Of equal voxels the first counts, NaN never. ``refine`` uses the voxels around the peak and leaves axes alone on
    which it lies at the border:

    - ``parabola``: the top of the parabola through three voxels of an axis, within half a voxel;
    - ``log_parabola``: the same on ``log(max(h, 1e-12))``, exact for a Gaussian along the axes;
    - ``dark``: one Newton step on that logarithm, exact for any Gaussian; ``log_parabola`` where it leads to no maximum
      within one voxel (Zhang et al., CVPR 2020);
    - ``com``: the centre of mass of ``max(h, 0)`` in the box of ``2 * window + 1`` voxels a side.

    Args:
        h: maps; float16 and bfloat16 are read as float32, and the results are float32.
        refine: ``none``, ``parabola``, ``log_parabola``, ``dark`` or ``com``.
        window: half width of the box of ``com``.
        threshold: peaks must exceed it to be valid.
        sigma: width of a Gaussian that ``dark`` smooths the map with, 0 for none, at most 20.

    Returns:
        Coordinates (NaN for a map without a number), values, and whether the map has a peak above the threshold.

    >>> heatmap_peak(torch.tensor([[[0.0, 1.0, 3.0, 2.0]]]), refine="parabola")[0]
    tensor([[[2.1667]]])
    """
    h = widened(h)
    _check_maps(h)
    _check_refine(refine, window, sigma)
    if not use_kernel(h):
        return reference.heatmap_peak(h, refine=refine, window=window, threshold=threshold, sigma=sigma)
    coords, value, _ = torch.ops.medsynth_ext.heatmap_peak(
        h.detach().flatten(0, 1), _REFINE.index(refine), window, sigma
    )
    value = value.reshape(h.shape[:2])
    valid = ~value.isnan() if threshold is None else value > threshold
    return coords.reshape(*h.shape[:2], h.ndim - 2), value, valid


def heatmap_peaks_nms(
    h: Tensor,  # (B, C, *S)
    *,
    threshold: float = 0.0,
    radius: float = 1.0,
    max_peaks: int = 32,
    window: int = 1,
    refine: str = "none",
    exclude_border: int = 0,
    spacing: Sequence[float] | None = None,
    sigma: float = 0.0,
    ties: str = "first",
) -> tuple[Tensor, Tensor, Tensor]:  # (B, C, K, D), (B, C, K), (B, C) int64
    """The highest local maxima of every map, exactly; not differentiable.

    A local maximum exceeds the threshold and every earlier voxel of the box of ``2 * window + 1`` voxels a side, and no
    later one exceeds it: of a flat top the first voxel counts. NaN and what lies outside the map are passed over. From
    the highest down (of equal ones the first), a maximum is kept and later ones within ``radius`` of it are dropped.

    Args:
        h: maps; float16 and bfloat16 are read as float32, and the results are float32.
        threshold: maxima must exceed it.
        radius: Euclidean distance within which a higher peak suppresses a lower one; 0 for no suppression.
        max_peaks: K, at most that many are kept.
        window: half width of the box, and of that of ``refine="com"``.
        refine: see :func:`heatmap_peak`; the distances are those of the voxels.
        exclude_border: voxels from the border in which no peak counts.
        spacing: voxel size for ``radius``, 1 on all axes by default.
        sigma: smoothing of ``dark``.
        ties: ``first``, or ``all`` for every voxel that none in its box exceeds.

    Returns:
        Coordinates and values of K peaks, padded with NaN and -inf, and how many there are.

    >>> coords, value, count = heatmap_peaks_nms(torch.tensor([[[0.0, 2.0, 0.0, 3.0, 3.0]]]), max_peaks=3)
    >>> coords[0, 0, :, 0].tolist(), count.item()
    ([3.0, 1.0, nan], 2)
    """
    h = widened(h)
    _check_maps(h)
    _check_refine(refine, window, sigma)
    one_of("ties", ties, ("first", "all"))
    if max_peaks < 1 or exclude_border < 0:
        least = "max_peaks must be at least 1 and exclude_border not negative"
        raise ValueError(f"{least}, got {max_peaks} and {exclude_border}")
    if not radius >= 0 or math.isnan(threshold):
        raise ValueError(f"radius must not be negative and threshold be a number, got {radius} and {threshold}")
    axes = h.ndim - 2
    steps = [1.0] * axes if spacing is None else [float(s) for s in spacing]
    if len(steps) != axes or not all(0 < s < math.inf for s in steps):
        raise ValueError(f"spacing must be {axes} positive numbers, got {spacing}")
    if not use_kernel(h):
        return reference.heatmap_peaks_nms(
            h,
            threshold=threshold,
            radius=radius,
            max_peaks=max_peaks,
            window=window,
            refine=refine,
            exclude_border=exclude_border,
            spacing=steps,
            sigma=sigma,
            ties=ties,
        )
    numbers = (float(threshold), float(radius), max_peaks, window, _REFINE.index(refine), float(sigma), exclude_border)
    coords, value, count = torch.ops.medsynth_ext.heatmap_peaks_nms(
        h.detach().flatten(0, 1), *numbers, steps, ties == "all"
    )
    shape = h.shape[:2]
    return coords.reshape(*shape, max_peaks, axes), value.reshape(*shape, max_peaks), count.reshape(shape)


def heatmap_peaks_maxpool(
    h: Tensor,  # (B, 1, *S)
    *,
    kernel: int = 3,
    topk: int = 30,
    lower: int | None = None,
    upper: int | None = None,
    threshold: float = 0.1,
    rule: str = "v2",
    ties: str = "first",
    floor: float = 1e-6,
    presmooth_sigma: float = 1.0,
    refine: str = "none",
) -> tuple[Tensor, Tensor, Tensor]:  # (B, topk, D), (B, topk), (B,) int64
    """An unknown number of points from one map: voxels that equal the maximum of their window, and a rule for how many.

    Candidates are sorted by value (of equal ones the first voxel first). Of the best ``topk``, as many are given out as
    reach the threshold, but at least ``lower`` and at most ``upper``, as far as there are candidates. No suppression
    beyond the window: see :func:`heatmap_peaks_nms` for that.

    Args:
        h: heatmap.
        kernel: side of the window, odd.
        topk: K, most candidates.
        lower: least number of points: 10 for rule ``v1``, 4 for ``v2``, 0 for ``score`` unless given.
        upper: largest number: ``topk`` for ``v1`` and ``score``, 10 for ``v2`` unless given.
        threshold: score that counts.
        rule: which bounds are the defaults.
        ties: ``first``, or ``all`` for every voxel of a flat top.
        floor: candidates must exceed it.
        presmooth_sigma: width of a Gaussian, truncated at four widths with zeros outside, that is applied first.
        refine: see :func:`heatmap_peak`; ``com`` uses the window.

    Returns:
        Points padded with NaN, scores with -inf, and how many there are.

    >>> heatmap_peaks_maxpool(torch.eye(3)[None, None], presmooth_sigma=0.0, ties="all")[2].item()
    3
    """
    h = widened(h)
    _check_maps(h, "B, 1")
    if h.shape[1] != 1:
        raise ValueError(f"h must have one channel, got {tuple(h.shape)}")
    if kernel < 3 or kernel % 2 == 0:
        raise ValueError(f"kernel must be odd and at least 3, got {kernel}")
    one_of("rule", rule, _RULES)
    if not presmooth_sigma >= 0:
        raise ValueError(f"presmooth_sigma must not be negative, got {presmooth_sigma}")
    least, most = {"v1": (10, topk), "v2": (4, 10), "score": (0, topk)}[rule]
    least, most = least if lower is None else lower, most if upper is None else upper
    if not 0 <= least <= most:
        raise ValueError(f"lower and upper must be in order and not negative, got {least} and {most}")
    h = h.detach()
    if presmooth_sigma:
        h = gaussian_blur(h, presmooth_sigma, truncate=4.0, border="zeros")
    coords, score, found = heatmap_peaks_nms(
        h, threshold=floor, radius=0.0, max_peaks=topk, window=kernel // 2, refine=refine, ties=ties
    )
    coords, score, found = coords[:, 0], score[:, 0], found[:, 0]
    count = (score >= threshold).sum(1).clamp(least, most).minimum(found)
    beyond = torch.arange(topk, device=h.device) >= count[:, None]
    return coords.masked_fill(beyond[..., None], math.nan), score.masked_fill(beyond, -math.inf), count


def _check_maps(h: Tensor, lead: str = "B, N") -> None:
    check_float("h", h)
    if not 3 <= h.ndim <= 5:
        raise ValueError(f"h must be ({lead}, *S) with one to three spatial axes, got {tuple(h.shape)}")
    if 0 in h.shape[2:]:
        raise ValueError(f"h must have at least one voxel along every axis, got {tuple(h.shape)}")


def _check_refine(refine: str, window: int, sigma: float) -> None:
    one_of("refine", refine, _REFINE)
    if window < 1:
        raise ValueError(f"window must be at least 1, got {window}")
    if not 0 <= sigma <= 20:
        raise ValueError(f"sigma must be in [0, 20], got {sigma}")


if use_kernel(torch.empty(0)):

    @torch.library.register_fake("medsynth_ext::heatmap_peak")
    def _peak_fake(maps: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
        count = maps.shape[0]
        index = maps.new_empty((count,), dtype=torch.int64)
        return maps.new_empty((count, maps.ndim - 1)), maps.new_empty((count,)), index

    @torch.library.register_fake("medsynth_ext::heatmap_peaks_nms")
    def _nms_fake(
        maps: Tensor, threshold: float, radius: float, max_peaks: int, *_: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        count = maps.shape[0]
        found = maps.new_empty((count,), dtype=torch.int64)
        return maps.new_empty((count, max_peaks, maps.ndim - 1)), maps.new_empty((count, max_peaks)), found
