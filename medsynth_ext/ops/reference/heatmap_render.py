"""Plain PyTorch twins of the heatmap renderers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medsynth_ext.ops._heatmap_plan import RenderPlan, plan_channels, plan_point_map, plan_ragged
from medsynth_ext.ops._precision import float32_inside

__all__ = ["render_gaussian_heatmaps", "render_gaussian_heatmaps_ragged", "render_plan", "render_point_map"]


def render_plan(plan: RenderPlan, out: Tensor | None = None) -> Tensor:
    """Every Gaussian on the whole grid, then the sum or the maximum of those of a map."""
    axes = [torch.arange(n, dtype=plan.points.dtype, device=plan.points.device) for n in plan.size]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)  # (*size, D)
    drawn: list[list[Tensor]] = [[] for _ in range(plan.total)]
    index = range(plan.total) if plan.index is None else plan.index.tolist()
    for p, sigma, half, amplitude, m in zip(plan.points, plan.sigma, plan.half, plan.amplitude, index, strict=True):
        known = bool(p.isfinite().all() & (sigma > 0).all()) and (plan.add or bool(amplitude > 0))
        if known and 0 <= m < plan.total:
            distance = grid - p
            inside = (distance.detach().abs() <= half).all(-1)
            value = amplitude * torch.exp(-0.5 * ((distance / sigma) ** 2).sum(-1))
            drawn[m].append(torch.where(inside, value, 0))
    maps = [plan.points.new_zeros(plan.size)] * plan.total
    for m, layers in enumerate(drawn):
        if layers:
            stack = torch.stack(layers)
            maps[m] = stack.sum(0) if plan.add else stack.max(0).values
    result = (torch.stack(maps) if maps else plan.points.new_zeros(0)).reshape(plan.shape)
    return result if out is None else out.copy_(result)


@float32_inside("points", "sigma")
def render_gaussian_heatmaps(
    points: Tensor,
    sigma: float | Sequence[float] | Tensor,
    size: Sequence[int],
    *,
    visible: Tensor | None = None,
    amplitude: str = "peak",
    gain: float | Tensor = 1.0,
    radius: float = 5.0,
    channel: Tensor | None = None,
    n_channels: int | None = None,
    combine: str = "max",
    out: Tensor | None = None,
) -> Tensor:
    """See :func:`medsynth_ext.ops.render_gaussian_heatmaps`."""
    plan = plan_channels(
        points,
        sigma,
        size,
        visible=visible,
        amplitude=amplitude,
        gain=gain,
        radius=radius,
        channel=channel,
        n_channels=n_channels,
        combine=combine,
    )
    return render_plan(plan, out)


@float32_inside("points", "sigma")
def render_gaussian_heatmaps_ragged(
    points: Tensor,
    sigma: float | Sequence[float] | Tensor,
    size: Sequence[int],
    batch_index: Tensor,
    channel_index: Tensor,
    batch: int,
    n_channels: int,
    *,
    amplitude: str = "peak",
    gain: float | Tensor = 1.0,
    radius: float = 5.0,
    combine: str = "max",
    out: Tensor | None = None,
) -> Tensor:
    """See :func:`medsynth_ext.ops.render_gaussian_heatmaps_ragged`."""
    where = (size, batch_index, channel_index, (batch, n_channels))
    plan = plan_ragged(points, sigma, *where, amplitude=amplitude, gain=gain, radius=radius, combine=combine)
    return render_plan(plan, out)


@float32_inside("points", "sigma")
def render_point_map(
    points: Tensor,
    valid: Tensor,
    size: Sequence[int],
    sigma: float | Tensor,
    *,
    merge: str = "max",
    center: str = "exact",
    window: float | None = None,
    quantize: str | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """See :func:`medsynth_ext.ops.render_point_map`."""
    plan = plan_point_map(points, valid, size, sigma, merge=merge, center=center, window=window, quantize=quantize)
    result = render_plan(plan)
    result = result.clamp(max=1) if merge == "sum_clip" else result
    result = result if quantize is None else (result.detach() * 255).floor() / 255
    return result if out is None else out.copy_(result)
