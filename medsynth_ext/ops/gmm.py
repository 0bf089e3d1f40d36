"""Images from label maps: Gaussian intensities per label, and the fused training image of SynthSeg-like methods."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from medsynth_ext.ops import reference
from medsynth_ext.ops._checks import (
    check_float,
    check_label,
    check_out,
    check_same,
    check_seed,
    refuse_grad,
    use_kernel,
)
from medsynth_ext.ops._precision import float32_inside
from medsynth_ext.ops.random import check_channels, check_index_grid

__all__ = ["gmm_sample", "synth_image"]


def _on_meta(tensor: Tensor) -> bool:
    return tensor.device.type == "meta"


def _values_readable(tensor: Tensor, validate: bool) -> bool:
    """Whether a small tensor's values may be looked at: for nothing on the CPU, for a device sync elsewhere."""
    if torch.compiler.is_compiling() or _on_meta(tensor):
        return False
    return tensor.device.type == "cpu" or validate


def _spatial_labels(labels: Tensor) -> Tensor:
    """(B, *S) from (B, 1, *S) or (B, *S); an axis 1 of size one is taken for the channel axis."""
    check_label("labels", labels)
    if labels.ndim > 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if not 2 <= labels.ndim <= 4:
        raise ValueError(
            f"labels must be (B, 1, *S) or (B, *S) with one to three spatial axes, got {tuple(labels.shape)}"
        )
    return labels


def _parameter(name: str, value: Tensor, batch: int) -> Tensor:
    """(B, K, C) from (B, K, C), (K, C) or (K,)."""
    check_float(name, value)
    if not 1 <= value.ndim <= 3:
        raise ValueError(f"{name} must be (B, K, C), (K, C) or (K,), got {tuple(value.shape)}")
    full = value[:, None] if value.ndim == 1 else value
    if full.ndim == 3 and full.shape[0] != batch:
        raise ValueError(f"{name} must have the batch size of labels ({batch}), got {tuple(value.shape)}")
    check_channels(full.shape[-1])
    return full.expand(batch, full.shape[-2], full.shape[-1])


def _check_lut(lut: Tensor, labels: Tensor, classes: int, validate: bool) -> None:
    if not isinstance(lut, Tensor):
        raise TypeError(f"lut must be a tensor, got {type(lut).__name__}")
    if lut.dtype != torch.int32:
        raise TypeError(f"lut must be int32, got {lut.dtype}")
    if lut.ndim != 1:
        raise ValueError(f"lut must be (Lmax + 1,), got {tuple(lut.shape)}")
    check_same("lut", lut, "labels", labels, dtype=False)
    if lut.numel() and _values_readable(lut, validate):
        low, high = (int(v) for v in lut.aminmax())
        if low < -1 or high >= classes:
            raise ValueError(f"lut must hold classes 0..{classes - 1} or -1, got values from {low} to {high}")


def _check_gaussians(means: Tensor, stds: Tensor, validate: bool) -> None:
    if means.numel() and _values_readable(means, validate):
        if not bool(torch.isfinite(means).all()):
            raise ValueError("means must be finite")
        if not bool((torch.isfinite(stds) & (stds >= 0)).all()):
            raise ValueError("stds must be finite and not negative")


def _check_inputs(
    labels: Tensor,
    means: Tensor,
    stds: Tensor,
    lut: Tensor | None,
    seed: int,
    sample_offset: int,
    stream: int,
    validate: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Labels (B, *S), means and stds (B, K, C), all checked."""
    labels = _spatial_labels(labels)
    mean, std = _parameter("means", means, labels.shape[0]), _parameter("stds", stds, labels.shape[0])
    check_same("stds", stds, "means", means)
    check_same("means", means, "labels", labels, dtype=False)
    if mean.shape != std.shape:
        raise ValueError(
            f"means and stds must agree in classes and channels, got {tuple(means.shape)} and {tuple(stds.shape)}"
        )
    if lut is not None:
        _check_lut(lut, labels, mean.shape[1], validate)
    _check_gaussians(means.detach(), stds.detach(), validate)
    check_seed(seed, sample_offset, stream)
    if sample_offset + labels.shape[0] > 2**32:
        raise ValueError(f"sample_offset + B must be at most 2**32, got {sample_offset} + {labels.shape[0]}")
    return labels, mean, std


def _call(operator: Any, *args: Any) -> Any:
    """Calls the operator; its complaint about a label without class becomes a ``ValueError``."""
    if torch.compiler.is_compiling():
        return operator(*args)
    try:
        return operator(*args)
    except RuntimeError as error:
        message = str(error).split("\n")[0]
        if "which has no class" not in message:
            raise
        raise ValueError(message[max(message.find("labels holds"), 0) :]) from None


@float32_inside("means", "stds")
def gmm_sample(
    labels: Tensor,  # (B, 1, *S) or (B, *S) bool, uint8, int16, int32 or int64
    means: Tensor,  # (B, K, C), (K, C) or (K,) float
    stds: Tensor,  # as means, >= 0
    *,
    lut: Tensor | None = None,  # (Lmax + 1,) int32
    seed: int,
    sample_offset: int = 0,
    stream: int = 0,
    index_shape: Sequence[int] | None = None,
    index_origin: Sequence[int] | None = None,
    validate: bool = True,
    out: Tensor | None = None,
) -> Tensor:  # (B, C, *S), dtype of means
    """Intensities from labels: ``means[b, k, c] + stds[b, k, c] * n`` with k the voxel's class and n a standard normal.

    n depends on (seed, sample_offset + b, stream, c, voxel) alone, as in :func:`medsynth_ext.ops.rand_normal`; with
    ``index_shape`` and ``index_origin`` a crop has the noise of the whole. Differentiable once in means and stds.

    Args:
        labels: label values; an axis 1 of size one is the channel axis.
        means: mean per class, for all samples or per sample, for one or several channels.
        stds: standard deviation per class.
        lut: class of every label value, -1 for values that must not occur; without it the labels are the classes.
        seed: signed 64-bit integer.
        sample_offset: sample index of the first batch entry.
        stream: number of the random sequence, in [0, 2**24).
        index_shape: grid that numbers the voxels, the own one when left out.
        index_origin: place of this grid in ``index_shape``.
        validate: raise for labels without class (they become NaN otherwise); on a GPU this waits for the device.
        out: written to and returned.

    Raises:
        TypeError: for dtypes other than those above.
        ValueError: for shapes that do not fit, a negative or not finite parameter, a lut entry that is no class, or a
            label without class (with its value, sample and position).
        RuntimeError: for tensors on different devices, or ``out`` where a gradient is wanted.

    >>> labels = torch.tensor([[[0, 7, 7, 0]]])
    >>> lut = torch.full((8,), -1, dtype=torch.int32)
    >>> lut[0], lut[7] = 0, 1
    >>> gmm_sample(labels, torch.tensor([1.0, 5.0]), torch.zeros(2), lut=lut, seed=0)
    tensor([[[1., 5., 5., 1.]]])
    """
    flat, mean, std = _check_inputs(labels, means, stds, lut, seed, sample_offset, stream, validate)
    whole, origin = check_index_grid(flat.shape[1:], index_shape, index_origin)
    if out is not None:
        check_out(out, (flat.shape[0], mean.shape[2], *flat.shape[1:]), means.dtype, labels.device, (means, stds))
    if not use_kernel(labels):
        return reference.gmm_sample(
            labels,
            means,
            stds,
            lut=lut,
            seed=seed,
            sample_offset=sample_offset,
            stream=stream,
            index_shape=index_shape,
            index_origin=index_origin,
            validate=validate,
            out=out,
        )
    args = (flat, mean, std, lut, seed, sample_offset, stream, whole, origin, validate)
    if out is None:
        return _call(torch.ops.medsynth_ext.gmm_sample, *args)
    _call(torch.ops.medsynth_ext.gmm_sample_out, *args, out)
    return out


def _check_bias(bias_grid: Tensor, means: Tensor, shape: Sequence[int]) -> None:
    check_float("bias_grid", bias_grid)
    check_same("bias_grid", bias_grid, "means", means)
    if bias_grid.ndim != len(shape) or tuple(bias_grid.shape[:2]) != tuple(shape[:2]) or 0 in bias_grid.shape[2:]:
        raise ValueError(f"bias_grid must be (B, C, *m) = ({shape[0]}, {shape[1]}, ...), got {tuple(bias_grid.shape)}")


def _check_clip(clip: tuple[float, float] | None, normalise: bool, gamma: Tensor | None) -> list[float]:
    if clip is not None and (len(clip) != 2 or any(math.isnan(v) for v in clip) or clip[0] > clip[1]):
        raise ValueError(f"clip must be None or (low, high) with low <= high, got {clip}")
    if gamma is not None and not normalise and (clip is None or clip[0] < 0):
        raise ValueError(f"gamma needs values that are not negative: normalise, or clip from 0 on (clip is {clip})")
    return [] if clip is None else [float(v) for v in clip]


@float32_inside("means", "stds", "bias_grid", "gamma")
def synth_image(
    labels: Tensor,  # (B, 1, *S) or (B, *S) bool, uint8, int16, int32 or int64
    means: Tensor,  # (B, K, C), (K, C) or (K,) float
    stds: Tensor,  # as means, >= 0
    *,
    lut: Tensor | None = None,  # (Lmax + 1,) int32
    bias_grid: Tensor | None = None,  # (B, C, *m)
    clip: tuple[float, float] | None = (0.0, 300.0),
    normalise: bool = True,
    gamma: Tensor | None = None,  # (B, C)
    seed: int,
    sample_offset: int = 0,
    stream: int = 0,
    index_shape: Sequence[int] | None = None,
    index_origin: Sequence[int] | None = None,
    eps: float = 1e-7,
    validate: bool = True,
    out: Tensor | None = None,
) -> Tensor:  # (B, C, *S), dtype of means
    """The synthetic training image in one operator, without gradient.

    ``gmm_sample``, times ``exp`` of the linearly resized ``bias_grid``, clipped, ``(x - min) / (max - min + eps)`` per
    sample and channel, raised to ``exp(gamma)``. A class of mean 0 and std 0 stays exactly 0 under any bias.

    Args:
        labels: as for :func:`gmm_sample`, like all arguments not named here.
        means: as for :func:`gmm_sample`.
        stds: as for :func:`gmm_sample`.
        lut: as for :func:`gmm_sample`.
        bias_grid: logarithm of the bias field on a coarse grid that spans ``index_shape`` (the own grid without it);
            voxel i reads the grid at ``i * m / size``, cut at the last node.
        clip: limits after the bias, or ``None``.
        normalise: bring every sample and channel to [0, 1].
        gamma: logarithm of the power.
        seed: as for :func:`gmm_sample`.
        sample_offset: as for :func:`gmm_sample`.
        stream: as for :func:`gmm_sample`.
        index_shape: as for :func:`gmm_sample`.
        index_origin: as for :func:`gmm_sample`.
        eps: keeps a constant image from dividing by zero.
        validate: as for :func:`gmm_sample`.
        out: written to and returned.

    Raises:
        NotImplementedError: when a parameter requires a gradient.
        TypeError: as for :func:`gmm_sample`.
        ValueError: as for :func:`gmm_sample`; also for a clip out of order, or gamma on values that may be negative.
    """
    hint = "use gmm_sample, resize_field and torch's own functions"
    refuse_grad("synth_image", hint, means=means, stds=stds, bias_grid=bias_grid, gamma=gamma)
    flat, mean, std = _check_inputs(labels, means, stds, lut, seed, sample_offset, stream, validate)
    whole, origin = check_index_grid(flat.shape[1:], index_shape, index_origin)
    shape = (flat.shape[0], mean.shape[2], *flat.shape[1:])
    limits = _check_clip(clip, normalise, gamma)
    if bias_grid is not None:
        _check_bias(bias_grid, means, shape)
    if not 0 <= eps < math.inf:
        raise ValueError(f"eps must be finite and not negative, got {eps}")
    power = None
    if gamma is not None:
        check_float("gamma", gamma)
        check_same("gamma", gamma, "means", means)
        if tuple(gamma.shape) != shape[:2]:
            raise ValueError(f"gamma must be (B, C) = {shape[:2]}, got {tuple(gamma.shape)}")
        power = torch.exp(gamma.detach())
    if out is not None:
        check_out(out, shape, means.dtype, labels.device, ())
    if not use_kernel(labels):
        return reference.synth_image(
            labels,
            means,
            stds,
            lut=lut,
            bias_grid=bias_grid,
            clip=clip,
            normalise=normalise,
            gamma=gamma,
            seed=seed,
            sample_offset=sample_offset,
            stream=stream,
            index_shape=index_shape,
            index_origin=index_origin,
            eps=eps,
            validate=validate,
            out=out,
        )
    place = (seed, sample_offset, stream, whole, origin, validate)
    args = (flat, mean.detach(), std.detach(), lut, bias_grid, power, limits, normalise, eps, *place)
    if out is None:
        return _call(torch.ops.medsynth_ext.synth_image, *args)
    _call(torch.ops.medsynth_ext.synth_image_out, *args, out)
    return out


if use_kernel(torch.empty(0)):
    _gmm = torch.ops.medsynth_ext

    @torch.library.register_fake("medsynth_ext::gmm_sample")
    def _gmm_sample_fake(labels: Tensor, means: Tensor, *_args: object) -> Tensor:
        return means.new_empty((labels.shape[0], means.shape[2], *labels.shape[1:]))

    @torch.library.register_fake("medsynth_ext::synth_image")
    def _synth_image_fake(labels: Tensor, means: Tensor, *_args: object) -> Tensor:
        return means.new_empty((labels.shape[0], means.shape[2], *labels.shape[1:]))

    @torch.library.register_fake("medsynth_ext::gmm_sample_backward")
    def _gmm_sample_backward_fake(
        grad: Tensor, labels: Tensor, lut: Tensor | None, classes: int, to_means: bool, to_stds: bool, *_args: object
    ) -> tuple[Tensor, Tensor]:
        size = (classes, grad.shape[1])
        return grad.new_empty((labels.shape[0] * to_means, *size)), grad.new_empty((labels.shape[0] * to_stds, *size))

    def _nothing(*_args: object) -> None:
        """Fake of the operators that only write to ``out``."""

    torch.library.register_fake("medsynth_ext::gmm_sample_out", _nothing)
    torch.library.register_fake("medsynth_ext::synth_image_out", _nothing)

    def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        labels, means, _stds, lut, *place, _validate = inputs
        ctx.save_for_backward(labels, lut)
        ctx.place, ctx.classes = place, means.shape[1]

    def _gmm_sample_grad(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        labels, lut = ctx.saved_tensors
        to_means, to_stds = ctx.needs_input_grad[1], ctx.needs_input_grad[2]
        of_means, of_stds = _gmm.gmm_sample_backward(grad, labels, lut, ctx.classes, to_means, to_stds, *ctx.place)
        return (None, of_means if to_means else None, of_stds if to_stds else None, *[None] * 7)

    def _no_second_gradient(ctx: Any, *grads: Tensor) -> None:
        raise NotImplementedError("gmm_sample has no second derivative")

    torch.library.register_autograd("medsynth_ext::gmm_sample", _gmm_sample_grad, setup_context=_save)
    torch.library.register_autograd("medsynth_ext::gmm_sample_backward", _no_second_gradient)
