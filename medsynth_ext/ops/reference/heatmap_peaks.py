"""Plain PyTorch twins of peak finding: one map after another, one voxel after another."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from medsynth_ext.ops._precision import widened

__all__ = ["heatmap_peak", "heatmap_peaks_nms"]


def _parabola_top(a: float, b: float, c: float) -> float:
    bend = a - 2 * b + c
    if not bend < -1e-12:
        return 0.0
    return min(max(0.5 * (a - c) / bend, -0.5), 0.5)


def _smoothed(h: Tensor, sigma: float) -> Tensor:
    """Gaussian over three standard deviations, border voxels repeated; NaN counts as nothing."""
    h = h.nan_to_num(nan=0.0, posinf=math.inf, neginf=-math.inf)
    r = math.ceil(3 * sigma)
    taps = torch.exp(-0.5 * (torch.arange(-r, r + 1).double() / sigma) ** 2)
    taps = taps / taps.sum()
    for d in range(h.ndim):
        if h.shape[d] > 1:
            line = h.movedim(d, -1)
            index = torch.arange(-r, line.shape[-1] + r).clamp(0, line.shape[-1] - 1)
            h = F.conv1d(line[..., index].reshape(-1, 1, len(index)), taps[None, None]).reshape(line.shape)
            h = h.movedim(-1, d)
    return h


def _dark(log: Tensor, at: tuple[int, ...], inner: list[int]) -> Tensor | None:
    """One Newton step, or None where it does not lead to a maximum within one voxel."""

    def value(*steps: tuple[int, int]) -> float:
        index = list(at)
        for d, s in steps:
            index[d] += s
        return float(log[tuple(index)])

    g = torch.tensor([0.5 * (value((d, 1)) - value((d, -1))) for d in inner], dtype=torch.float64)
    a = torch.zeros(len(inner), len(inner), dtype=torch.float64)
    for i, d in enumerate(inner):
        a[i, i] = -(value((d, 1)) - 2 * value() + value((d, -1)))
        for j, e in enumerate(inner[:i]):
            cross = sum(s * t * value((d, s), (e, t)) for s in (-1, 1) for t in (-1, 1))
            a[i, j] = a[j, i] = -0.25 * cross
    factor, failed = torch.linalg.cholesky_ex(a)
    if not inner or bool(failed) or not bool(a.isfinite().all()):
        return None
    step = torch.cholesky_solve(g[:, None], factor)[:, 0]
    return step if bool((step.abs() <= 1).all()) else None


def _refine_peak(h: Tensor, at: tuple[int, ...], refine: str, window: int, smooth: float) -> list[float]:
    """The place of the peak at voxel ``at`` of a float64 map."""
    inner = [d for d in range(h.ndim) if 0 < at[d] < h.shape[d] - 1]
    place = [float(i) for i in at]
    if refine == "com":
        box = tuple(slice(max(i - window, 0), i + window + 1) for i in at)
        weight = torch.where(h[box] > 0, h[box], 0)
        for d in range(h.ndim):
            steps = torch.arange(box[d].start, box[d].start + weight.shape[d]).double() - at[d]
            others = [e for e in range(h.ndim) if e != d]
            offset = float((weight.sum(others) if others else weight) @ steps / weight.sum())
            place[d] += offset if math.isfinite(offset) else 0.0
        return place
    if refine == "none":
        return place
    if refine != "parabola":
        near = _smoothed(h, smooth) if refine == "dark" and smooth > 0 else h
        h = torch.where(near > 1e-12, near, 1e-12).log()
        step = _dark(h, at, inner) if refine == "dark" else None
        if step is not None:
            for d, s in zip(inner, step.tolist(), strict=True):
                place[d] += s
            return place
    for d in inner:
        line = h.movedim(d, -1)[tuple(i for e, i in enumerate(at) if e != d)]
        place[d] += _parabola_top(*(float(v) for v in line[at[d] - 1 : at[d] + 2]))
    return place


def heatmap_peak(
    h: Tensor,
    *,
    refine: str = "none",
    window: int = 2,
    threshold: float | None = None,
    sigma: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`medsynth_ext.ops.heatmap_peak`."""
    h = widened(h)
    maps = h.detach().flatten(0, 1).cpu()
    coords, values = [], []
    for image in maps:
        known = ~image.isnan().flatten()
        if not bool(known.any()):
            coords.append([math.nan] * image.ndim)
            values.append(math.nan)
            continue
        best = image.flatten()[known].max()
        index = int(((image.flatten() == best) & known).nonzero()[0])
        at = tuple(int(i) for i in torch.unravel_index(torch.tensor(index), image.shape))
        coords.append(_refine_peak(image.double(), at, refine, window, sigma))
        values.append(float(best))
    value = torch.tensor(values, dtype=torch.float64).to(h.device, h.dtype).reshape(h.shape[:2])
    place = torch.tensor(coords, dtype=torch.float64).reshape(*h.shape[:2], h.ndim - 2).to(h.device, h.dtype)
    return place, value, ~value.isnan() if threshold is None else value > threshold


def _local_maxima(h: Tensor, threshold: float, window: int, border: int, all_ties: bool) -> Tensor:
    """Which voxels of a map are local maxima."""
    clean = h.nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf)
    padded = F.pad(clean, [window] * (2 * h.ndim), value=-math.inf)
    result = h > threshold
    for step in itertools.product(range(-window, window + 1), repeat=h.ndim):
        if not any(step):
            continue
        other = padded[tuple(slice(window + s, window + s + n) for s, n in zip(step, h.shape, strict=True))]
        earlier = next(s for s in step if s) < 0
        result &= h > other if earlier and not all_ties else h >= other
    allowed = torch.zeros_like(result)
    allowed[tuple(slice(border, max(n - border, 0)) for n in h.shape)] = True
    return result & allowed


def heatmap_peaks_nms(
    h: Tensor,
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
) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`medsynth_ext.ops.heatmap_peaks_nms`."""
    h = widened(h)
    maps = h.detach().flatten(0, 1).cpu()
    axes = maps.ndim - 1
    steps = [1.0] * axes if spacing is None else list(spacing)
    coords = torch.full((maps.shape[0], max_peaks, axes), math.nan, dtype=torch.float64)
    values = torch.full((maps.shape[0], max_peaks), -math.inf, dtype=torch.float64)
    count = torch.zeros(maps.shape[0], dtype=torch.int64)
    for m, image in enumerate(maps):
        found = _local_maxima(image, threshold, window, exclude_border, ties == "all").nonzero().tolist()
        kept: list[list[int]] = []
        for at in sorted(found, key=lambda i: (-float(image[tuple(i)]), i)):
            squares = [sum(((a - b) * s) ** 2 for a, b, s in zip(at, k, steps, strict=True)) for k in kept]
            if len(kept) == max_peaks or (radius > 0 and any(d <= radius**2 for d in squares)):
                continue
            place = _refine_peak(image.double(), tuple(at), refine, window, sigma)
            coords[m, len(kept)] = torch.tensor(place, dtype=torch.float64)
            values[m, len(kept)] = image[tuple(at)].double()
            kept.append(at)
        count[m] = len(kept)
    shape = h.shape[:2]
    return (
        coords.to(h.device, h.dtype).reshape(*shape, max_peaks, axes),
        values.to(h.device, h.dtype).reshape(*shape, max_peaks),
        count.to(h.device).reshape(shape),
    )
