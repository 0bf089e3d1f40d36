"""Gaussian heatmaps at landmarks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from medsynth_ext.ops import reference
from medsynth_ext.ops._checks import check_out, use_kernel
from medsynth_ext.ops._heatmap_plan import RenderPlan, plan_channels, plan_point_map, plan_ragged
from medsynth_ext.ops._precision import float32_inside

__all__ = ["render_gaussian_heatmaps", "render_gaussian_heatmaps_ragged", "render_point_map"]


@float32_inside("points", "sigma")
def render_gaussian_heatmaps(
    points: Tensor,  # (B, N, D) in voxels
    sigma: float | Sequence[float] | Tensor,  # (), (D,), (N, D) or (B, N, D) in voxels
    size: Sequence[int],
    *,
    visible: Tensor | None = None,  # (B, N) bool
    amplitude: str = "peak",
    gain: float | Tensor = 1.0,
    radius: float = 5.0,
    channel: Tensor | None = None,  # (N,) or (B, N) int64
    n_channels: int | None = None,
    combine: str = "max",
    out: Tensor | None = None,
) -> Tensor:  # (B, n_channels or N, *size)
    """A Gaussian at every point, not rounded to voxels; differentiable in points, sigma and gain.

    ``A exp(-sum_d (r_d - p_d)**2 / (2 sigma_d**2))`` where ``|r_d - p_d| <= radius * sigma_d`` on every axis, else 0;
    ``A = gain`` for ``peak``, ``gain / ((2 pi)**(D / 2) prod_d sigma_d)`` for ``density``. Points that are invisible,
    not finite or too far outside contribute nothing. The edges of the box carry no gradient; under ``max`` only the
    point that counts at a voxel gets its gradient, the first of equal ones.

    Args:
        points: index coordinates in the order of the tensor's axes; integers are voxel centres.
        sigma: standard deviations, positive; a tensor's values are checked on the CPU, elsewhere a point with another
            one contributes nothing.
        size: spatial shape of the maps, one to three axes.
        visible: which points count; all by default.
        amplitude: ``peak`` or ``density``.
        gain: the height of a peak, or the mass of a density; under ``max`` only a positive one shows.
        radius: half width of a Gaussian's box in standard deviations; ``math.inf`` for none.
        channel: the channel of every point when several share one; by default every point has its own.
        n_channels: number of channels, with ``channel`` only; its largest entry plus one by default (which waits for a
            GPU).
        combine: what happens where points of a channel overlap: ``max`` (never below 0) or ``sum``.
        out: receives the maps; no gradient then.

    Raises:
        TypeError: for points that are not of a float type.
        ValueError: for another shape, a sigma that is not positive or a channel that does not exist.

    >>> render_gaussian_heatmaps(torch.tensor([[[1.0]]]), 1.0, (3,))
    tensor([[[0.6065, 1.0000, 0.6065]]])
    """
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
    return _render(plan, out)


@float32_inside("points", "sigma")
def render_gaussian_heatmaps_ragged(
    points: Tensor,  # (M, D) in voxels
    sigma: float | Sequence[float] | Tensor,  # (), (D,) or (M, D) in voxels
    size: Sequence[int],
    batch_index: Tensor,  # (M,) int64
    channel_index: Tensor,  # (M,) int64
    batch: int,
    n_channels: int,
    *,
    amplitude: str = "peak",
    gain: float | Tensor = 1.0,
    radius: float = 5.0,
    combine: str = "max",
    out: Tensor | None = None,
) -> Tensor:  # (batch, n_channels, *size)
    """:func:`render_gaussian_heatmaps` for one list of points, each with the sample and the channel that it is for.

    >>> index = torch.tensor([0, 2])
    >>> maps = render_gaussian_heatmaps_ragged(torch.tensor([[1.0], [0.0]]), 1.0, (3,), index, index * 0, 3, 1)
    >>> maps[:, 0]
    tensor([[0.6065, 1.0000, 0.6065],
            [0.0000, 0.0000, 0.0000],
            [1.0000, 0.6065, 0.1353]])
    """
    where = (size, batch_index, channel_index, (batch, n_channels))
    plan = plan_ragged(points, sigma, *where, amplitude=amplitude, gain=gain, radius=radius, combine=combine)
    return _render(plan, out)


@float32_inside("points", "sigma")
def render_point_map(
    points: Tensor,  # (B, K, D) in pixels
    valid: Tensor,  # (B, K) bool
    size: Sequence[int],
    sigma: float | Tensor,  # () or (B, K) in pixels
    *,
    merge: str = "max",
    center: str = "exact",
    window: float | None = None,
    quantize: str | None = None,
    out: Tensor | None = None,
) -> Tensor:  # (B, 1, *size)
    """All points of an image in one map with peaks of 1, as the detectors of an unknown number of points train on.

    Args:
        points: index coordinates; points outside contribute with what reaches into the image.
        valid: which of them count.
        size: spatial shape.
        sigma: standard deviation, one for all or one a point.
        merge: ``max``, or ``sum_clip`` for ``min(1, sum)``.
        center: ``exact``; ``round`` (half away from zero); or ``trunc``, under which points whose truncated centre is
            outside are left out. Only ``exact`` has a gradient to the points.
        window: half width of every Gaussian's square in pixels; ``None`` for the whole map.
        quantize: ``u8_floor`` for the values that an 8-bit image of the map holds, ``floor(255 h) / 255``; no gradient.
        out: receives the map; no gradient then.

    >>> render_point_map(torch.tensor([[[1.0, 1.0]]]), torch.tensor([[True]]), (1, 4), 1.0)[0, 0].shape
    torch.Size([1, 4])
    """
    plan = plan_point_map(points, valid, size, sigma, merge=merge, center=center, window=window, quantize=quantize)
    result = _render(plan, out)
    if out is None:
        result = result.clamp(max=1) if merge == "sum_clip" else result
        return result if quantize is None else (result.detach() * 255).floor() / 255
    if merge == "sum_clip":
        out.clamp_(max=1)
    return out if quantize is None else out.mul_(255).floor_().div_(255)


def _render(plan: RenderPlan, out: Tensor | None) -> Tensor:
    if out is not None:
        check_out(out, plan.shape, plan.points.dtype, plan.points.device, plan.inputs)
    if not use_kernel(plan.points):
        return reference.render_plan(plan, out)
    order = offsets = None
    if plan.index is not None:
        ranked, order = torch.sort(plan.index, stable=True)
        offsets = torch.searchsorted(ranked, torch.arange(plan.total + 1, device=ranked.device))
    tensors = (plan.points, plan.sigma, plan.half, plan.amplitude, order, offsets)
    if out is None:
        drawn = torch.ops.medsynth_ext.render_heatmaps(*tensors, plan.total, plan.size, plan.add)
        return drawn.reshape(plan.shape)
    flat = out.view(plan.total, *plan.size)
    torch.ops.medsynth_ext.render_heatmaps_out(*tensors, plan.total, plan.size, plan.add, flat)
    return out


if use_kernel(torch.empty(0)):

    @torch.library.register_fake("medsynth_ext::render_heatmaps")
    def _render_fake(points: Tensor, *rest: Any) -> Tensor:
        maps, size = rest[5:7]
        return points.new_empty((maps, *size))

    @torch.library.register_fake("medsynth_ext::render_heatmaps_out")
    def _render_out_fake(*_: Any) -> None:
        return None

    @torch.library.register_fake("medsynth_ext::render_heatmaps_backward")
    def _render_backward_fake(grad: Tensor, points: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
        return points.new_empty(points.shape), points.new_empty(points.shape), points.new_empty(points.shape[:1])

    def _render_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, _, _, ctx.sum = inputs
        ctx.save_for_backward(*tensors)

    def _render_grad(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grads = torch.ops.medsynth_ext.render_heatmaps_backward(grad, *ctx.saved_tensors, ctx.sum)
        return grads[0], grads[1], None, grads[2], None, None, None, None, None

    def _no_second_derivative(ctx: Any, *grads: Any) -> None:
        raise NotImplementedError("render_gaussian_heatmaps has no second derivative")

    torch.library.register_autograd("medsynth_ext::render_heatmaps", _render_grad, setup_context=_render_setup)
    torch.library.register_autograd("medsynth_ext::render_heatmaps_backward", _no_second_derivative)
