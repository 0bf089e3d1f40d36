"""Gaussian blur with one width per sample and axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from medsynth_ext.ops import reference
from medsynth_ext.ops._checks import check_float, check_out, one_of, use_kernel
from medsynth_ext.ops._precision import float32_inside

__all__ = ["gaussian_blur"]

_BORDERS = ("replicate", "zeros", "reflect")
_MAX_RADIUS = 8192


def _sigmas(sigma: float | Sequence[float] | Tensor, x: Tensor, truncate: float) -> Tensor:
    """(B, axes) float64 on the device of x; values are checked when they are on the CPU."""
    axes = x.ndim - 2
    if isinstance(sigma, Tensor):
        if sigma.requires_grad and torch.is_grad_enabled():
            raise NotImplementedError("gaussian_blur has no gradient to sigma; pass sigma.detach()")
        if sigma.device.type not in ("cpu", x.device.type):
            raise RuntimeError(f"sigma is on {sigma.device}, but x is on {x.device}; move one of them")
        values = sigma.detach().to(torch.float64)
    else:
        values = torch.tensor(sigma, dtype=torch.float64)
    if (
        values.ndim > 2
        or (values.ndim and values.shape[-1] != axes)
        or (values.ndim == 2 and values.shape[0] != x.shape[0])
    ):
        raise ValueError(
            f"sigma must be a number, ({axes},) or ({x.shape[0]}, {axes}), got shape {tuple(values.shape)}"
        )
    if values.device.type == "cpu" and values.numel() and not torch.compiler.is_compiling():
        limit = _MAX_RADIUS / truncate
        if not bool(((values >= 0) & (values <= limit)).all()):
            raise ValueError(f"sigma must be finite, not negative and at most {limit:g}, got {values.tolist()}")
    return values.expand(x.shape[0], axes).to(x.device).contiguous()


@float32_inside("x")
def gaussian_blur(
    x: Tensor,  # (B, C, *S) float
    sigma: float | Sequence[float] | Tensor,  # (), (D,) or (B, D) in voxels
    *,
    truncate: float = 3.0,
    border: str = "replicate",
    out: Tensor | None = None,
) -> Tensor:  # (B, C, *S)
    """Separable Gaussian blur with its own width for every sample and axis; differentiable in x.

    Along an axis: taps ``-r..r``, ``r = ceil(truncate * sigma)``, weights ``exp(-i**2 / (2 sigma**2))`` with sum 1.
    ``sigma = 0`` leaves an axis as it is. A voxel that is not finite spreads over the reach of the kernel, on the CPU
    up to 16 voxels further, since neighbours are computed together.

    Args:
        x: image.
        sigma: standard deviation in voxels; a tensor may be on the CPU or beside x. On a GPU its values are not checked
            (a negative or NaN one leaves its axis alone).
        truncate: half width of the kernel in standard deviations.
        border: what lies outside: the nearest voxel (``replicate``), ``zeros``, or the mirror image about the outer
            voxel centres (``reflect``).
        out: written to and returned; not x itself.

    Raises:
        TypeError: when x is not of a float type.
        ValueError: for another shape, border, truncate or a sigma that is negative, not finite or beyond 8192 taps.
        RuntimeError: for tensors on different devices, or ``out`` where a gradient is wanted.
        NotImplementedError: when sigma requires a gradient.

    >>> gaussian_blur(torch.ones(1, 1, 4, 4), (1.0, 2.0)).allclose(torch.ones(1, 1, 4, 4))
    True
    """
    check_float("x", x)
    if not 3 <= x.ndim <= 5:
        raise ValueError(f"x must be (B, C, *S) with one to three spatial axes, got {tuple(x.shape)}")
    one_of("border", border, _BORDERS)
    if not 0 < truncate < math.inf:
        raise ValueError(f"truncate must be positive and finite, got {truncate}")
    sigmas = _sigmas(sigma, x, truncate)
    if out is not None:
        check_out(out, x.shape, x.dtype, x.device, (x,))
        if out.data_ptr() == x.data_ptr() and out.numel():
            raise ValueError("out must not be x itself")
    if not use_kernel(x):
        return reference.gaussian_blur(x, sigmas, truncate=truncate, border=border, out=out)
    if out is None:
        return torch.ops.medsynth_ext.gaussian_blur(x, sigmas, truncate, _BORDERS.index(border), False)
    torch.ops.medsynth_ext.gaussian_blur_out(x, sigmas, truncate, _BORDERS.index(border), False, out)
    return out


if use_kernel(torch.empty(0)):

    @torch.library.register_fake("medsynth_ext::gaussian_blur")
    def _gaussian_blur_fake(x: Tensor, *_args: object) -> Tensor:
        return x.new_empty(x.shape)

    def _nothing(*_args: object) -> None:
        """Fake of the operators that only write to ``out``."""

    torch.library.register_fake("medsynth_ext::gaussian_blur_out", _nothing)

    def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _x, sigma, *ctx.rest = inputs
        ctx.save_for_backward(sigma)

    def _gaussian_blur_grad(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        truncate, border, transposed = ctx.rest
        (sigma,) = ctx.saved_tensors
        return (
            torch.ops.medsynth_ext.gaussian_blur(grad, sigma, truncate, border, not transposed),
            None,
            None,
            None,
            None,
        )

    torch.library.register_autograd("medsynth_ext::gaussian_blur", _gaussian_blur_grad, setup_context=_save)
