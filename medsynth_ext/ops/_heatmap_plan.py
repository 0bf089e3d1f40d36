"""What the heatmap renderers draw, from the forms that their arguments may take; shared by operators and twins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medsynth_ext.ops._checks import check_float, check_same, one_of

__all__ = ["RenderPlan", "plan_channels", "plan_point_map", "plan_ragged"]

_AMPLITUDES = ("peak", "density")
_COMBINE = ("max", "sum")


@dataclass(frozen=True)
class RenderPlan:
    """M Gaussians and where they go."""

    points: Tensor  # (M, D), NaN for those that are not drawn
    sigma: Tensor  # (M, D)
    half: Tensor  # (M, D) half widths of the boxes
    amplitude: Tensor  # (M,)
    index: Tensor | None  # (M,) map of every point, one past the last for nowhere; None: point i is all of map i
    maps: tuple[int, int]
    size: tuple[int, ...]
    add: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the result."""
        return (*self.maps, *self.size)

    @property
    def total(self) -> int:
        """Number of maps."""
        return math.prod(self.maps)

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """What gradients go to."""
        return self.points, self.sigma, self.amplitude


def plan_channels(
    points: Tensor,
    sigma: float | Sequence[float] | Tensor,
    size: Sequence[int],
    *,
    visible: Tensor | None,
    amplitude: str,
    gain: float | Tensor,
    radius: float,
    channel: Tensor | None,
    n_channels: int | None,
    combine: str,
) -> RenderPlan:
    """For :func:`medsynth_ext.ops.render_gaussian_heatmaps`."""
    check_float("points", points)
    shape = _check_size(size)
    if points.ndim != 3 or points.shape[2] != len(shape):
        raise ValueError(f"points must be (B, N, {len(shape)}) for size {shape}, got {tuple(points.shape)}")
    one_of("combine", combine, _COMBINE)
    batch, count = points.shape[:2]
    widths = _widths(sigma, points)
    _check_mask("visible", visible, points)
    channels, index = count, None
    if channel is not None:
        channels, index = _map_index(channel, n_channels, batch, count, points.device)
    elif n_channels is not None:
        raise ValueError("n_channels is for use with channel; without it every point has its own")
    return RenderPlan(
        _masked(points, visible).reshape(-1, len(shape)),
        widths.reshape(-1, len(shape)),
        _box(widths, radius).reshape(-1, len(shape)),
        _heights(widths, amplitude, gain).reshape(-1),
        index,
        (batch, channels),
        shape,
        combine == "sum",
    )


def plan_ragged(
    points: Tensor,
    sigma: float | Sequence[float] | Tensor,
    size: Sequence[int],
    batch_index: Tensor,
    channel_index: Tensor,
    maps: tuple[int, int],
    *,
    amplitude: str,
    gain: float | Tensor,
    radius: float,
    combine: str,
) -> RenderPlan:
    """For :func:`medsynth_ext.ops.render_gaussian_heatmaps_ragged`."""
    check_float("points", points)
    shape = _check_size(size)
    if points.ndim != 2 or points.shape[1] != len(shape):
        raise ValueError(f"points must be (M, {len(shape)}) for size {shape}, got {tuple(points.shape)}")
    one_of("combine", combine, _COMBINE)
    batch, channels = maps
    if batch < 0 or channels < 0:
        raise ValueError(f"batch and n_channels must not be negative, got {batch} and {channels}")
    for name, value, limit in (("batch_index", batch_index, batch), ("channel_index", channel_index, channels)):
        if value.shape != points.shape[:1]:
            raise ValueError(f"{name} must be ({points.shape[0]},), got {tuple(value.shape)}")
        _check_index(name, value, limit, points.device)
    widths = _widths(sigma, points)
    inside = (batch_index >= 0) & (batch_index < batch) & (channel_index >= 0) & (channel_index < channels)
    index = torch.where(inside, batch_index * channels + channel_index, batch * channels)
    heights = _heights(widths, amplitude, gain)
    return RenderPlan(points, widths, _box(widths, radius), heights, index, maps, shape, combine == "sum")


def plan_point_map(
    points: Tensor,
    valid: Tensor,
    size: Sequence[int],
    sigma: float | Tensor,
    *,
    merge: str,
    center: str,
    window: float | None,
    quantize: str | None,
) -> RenderPlan:
    """For :func:`medsynth_ext.ops.render_point_map`."""
    check_float("points", points)
    shape = _check_size(size)
    if points.ndim != 3 or points.shape[2] != len(shape):
        raise ValueError(f"points must be (B, K, {len(shape)}) for size {shape}, got {tuple(points.shape)}")
    _check_mask("valid", valid, points)
    one_of("merge", merge, ("max", "sum_clip"))
    one_of("center", center, ("exact", "round", "trunc"))
    if quantize is not None:
        one_of("quantize", quantize, ("u8_floor",))
    if window is not None and not window >= 0:
        raise ValueError(f"window must not be negative, got {window}")
    if center == "round":
        points = (points.detach().abs() + 0.5).floor() * points.detach().sign()
    elif center == "trunc":
        points = points.detach().trunc()
        inside = [(points[..., d] >= 0) & (points[..., d] < n) for d, n in enumerate(shape)]
        valid = valid & torch.stack(inside).all(0)
    if isinstance(sigma, Tensor) and sigma.ndim:
        if sigma.shape != valid.shape:
            raise ValueError(f"sigma must be a number or {tuple(valid.shape)}, got {tuple(sigma.shape)}")
        sigma = sigma[..., None].expand(points.shape)
    widths = _widths(sigma, points).reshape(-1, len(shape))
    samples = torch.arange(points.shape[0], device=points.device)
    return RenderPlan(
        _masked(points, valid).reshape(-1, len(shape)),
        widths,
        torch.full_like(widths, math.inf if window is None else window).detach(),
        points.new_ones(points.shape[:2]).reshape(-1),
        samples[:, None].expand(valid.shape).reshape(-1),
        (points.shape[0], 1),
        shape,
        merge == "sum_clip",
    )


def _masked(points: Tensor, visible: Tensor | None) -> Tensor:
    return points if visible is None else torch.where(visible[..., None], points, math.nan)


def _check_mask(name: str, mask: Tensor | None, points: Tensor) -> None:
    if mask is None:
        return
    if mask.dtype != torch.bool:
        raise TypeError(f"{name} must be bool, got {mask.dtype}")
    if mask.shape != points.shape[:2]:
        raise ValueError(f"{name} must be {tuple(points.shape[:2])}, got {tuple(mask.shape)}")
    check_same(name, mask, "points", points, dtype=False)


def _heights(widths: Tensor, amplitude: str, gain: float | Tensor) -> Tensor:
    one_of("amplitude", amplitude, _AMPLITUDES)
    if isinstance(gain, Tensor):
        if gain.ndim:
            raise ValueError(f"gain must be a number or a scalar tensor, got {tuple(gain.shape)}")
        check_same("gain", gain, "points", widths, dtype=False)
        heights = gain.to(widths.dtype).expand(widths.shape[:-1])
    elif not math.isfinite(gain):
        raise ValueError(f"gain must be finite, got {gain}")
    else:
        heights = widths.new_full(widths.shape[:-1], gain)
    return heights / (math.sqrt(2 * math.pi) * widths).prod(-1) if amplitude == "density" else heights


def _check_size(size: Sequence[int]) -> tuple[int, ...]:
    shape = tuple(int(n) for n in size)
    if not 1 <= len(shape) <= 3 or min(shape) < 1:
        raise ValueError(f"size must be one to three positive numbers, got {tuple(size)}")
    return shape


def _widths(sigma: float | Sequence[float] | Tensor, points: Tensor) -> Tensor:
    """Sigma for every point and axis, in the form of ``points``."""
    forms = ", ".join(str(tuple(points.shape[d:])) for d in range(points.ndim))
    if isinstance(sigma, Tensor):
        check_float("sigma", sigma)
        check_same("sigma", sigma, "points", points, dtype=sigma.ndim > 0)
        if sigma.ndim > points.ndim or sigma.shape != points.shape[points.ndim - sigma.ndim :]:
            raise ValueError(f"sigma must be a number or of shape {forms}, got {tuple(sigma.shape)}")
        if sigma.device.type == "cpu" and not torch.compiler.is_compiling():
            _check_positive(sigma.detach().flatten()[~((sigma > 0) & sigma.isfinite()).flatten()].tolist())
        return sigma.to(points.dtype).expand(points.shape)
    numbers = [float(s) for s in sigma] if isinstance(sigma, Sequence) else [float(sigma)] * points.shape[-1]
    if len(numbers) != points.shape[-1]:
        raise ValueError(f"sigma must be a number or of shape {forms}, got {len(numbers)} numbers")
    _check_positive([s for s in numbers if not 0 < s < math.inf])
    return torch.stack([points.new_full(points.shape[:-1], s) for s in numbers], dim=-1)


def _check_positive(bad: list[float]) -> None:
    if bad:
        raise ValueError(f"sigma must be positive and finite, got {bad[0]}")


def _box(widths: Tensor, radius: float) -> Tensor:
    if not radius > 0:
        raise ValueError(f"radius must be positive, got {radius}")
    return widths.detach() * radius


def _check_index(name: str, value: Tensor, limit: int, device: torch.device) -> None:
    if value.dtype != torch.int64:
        raise TypeError(f"{name} must be int64, got {value.dtype}")
    if value.device != device:
        raise RuntimeError(f"{name} is on {value.device}, but points is on {device}; move one of them")
    if value.device.type == "cpu" and value.numel() and not torch.compiler.is_compiling():
        low, high = int(value.min()), int(value.max())
        if low < 0 or high >= limit:
            raise ValueError(f"{name} must be in 0..{limit - 1}, got {low if low < 0 else high}")


def _map_index(
    channel: Tensor, n_channels: int | None, batch: int, count: int, device: torch.device
) -> tuple[int, Tensor]:
    """Number of channels, and the map of every point; one past the last map where the channel does not exist."""
    if tuple(channel.shape) not in ((count,), (batch, count)):
        raise ValueError(f"channel must be ({count},) or ({batch}, {count}), got {tuple(channel.shape)}")
    if n_channels is None:
        n_channels = int(channel.max()) + 1 if channel.numel() else 0
    if n_channels < 0:
        raise ValueError(f"n_channels must not be negative, got {n_channels}")
    _check_index("channel", channel, n_channels, device)
    wide = channel.expand(batch, count)
    samples = torch.arange(batch, device=device)[:, None] * n_channels
    inside = (wide >= 0) & (wide < n_channels)
    return n_channels, torch.where(inside, samples + wide, batch * n_channels).reshape(-1)
