"""Resizing of fields and images, and low-resolution simulation: down to a coarse grid and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from medsynth_ext.ops import reference
from medsynth_ext.ops._checks import check_float, check_out, one_of, refuse_grad, use_kernel
from medsynth_ext.ops._precision import float32_inside

__all__ = ["resample", "resize_field", "simulate_resolution"]

RULES = ("corner", "half_pixel", "align_corners")
MODES = ("linear", "nearest")
BORDERS = ("clamp", "zeros", "reflect")


def check_sizes(name: str, sizes: Sequence[int], dims: int, least: int = 1) -> list[int]:
    """``sizes`` as a list of ``dims`` integers, none below ``least``."""
    values = [int(n) for n in sizes]
    if len(values) != dims:
        raise ValueError(f"{name} must have {dims} entries, one per spatial axis, got {tuple(values)}")
    if any(n < least for n in values):
        raise ValueError(f"{name} must be at least {least} everywhere, got {tuple(values)}")
    return values


def check_volume(name: str, value: Tensor) -> int:
    """The number of spatial axes of (B, C, *spatial); ``ValueError`` unless it is 1 to 3 and there are voxels."""
    if value.ndim not in (3, 4, 5):
        raise ValueError(f"{name} must be (B, C, *spatial) with 1 to 3 spatial axes, got {tuple(value.shape)}")
    if any(n == 0 for n in value.shape[2:]):
        raise ValueError(f"{name} must have voxels, got {tuple(value.shape)}")
    return value.ndim - 2


def _resized(
    x: Tensor, size: Sequence[int], rule: str, mode: str, border: str, scale: list[float], out: Tensor | None
) -> Tensor:
    dims = check_volume("x", x)
    one_of("rule", rule, RULES)
    one_of("mode", mode, MODES)
    one_of("border", border, BORDERS)
    sizes = check_sizes("size", size, dims)
    arguments = (sizes, RULES.index(rule), MODES.index(mode), BORDERS.index(border), scale)
    if out is None:
        return torch.ops.medsynth_ext.resample(x, *arguments)
    check_out(out, (*x.shape[:2], *sizes), x.dtype, x.device, [x])
    torch.ops.medsynth_ext.resample_out(x, *arguments, out)
    return out


@float32_inside("x")
def resample(
    x: Tensor,  # (B, C, *S) float
    size: Sequence[int],
    *,
    rule: str = "corner",
    mode: str = "linear",
    border: str = "clamp",
    out: Tensor | None = None,
) -> Tensor:  # (B, C, *size)
    """Resize images to another grid; differentiable.

    Output voxel i of an axis lies at ``i * n_in / n_out`` (corner), ``(i + 0.5) * n_in / n_out - 0.5`` (half_pixel) or
    ``i * (n_in - 1) / (n_out - 1)`` (align_corners).

    Args:
        x: images.
        size: the new size, one number per spatial axis.
        rule: where the new voxels lie: ``corner``, ``half_pixel`` or ``align_corners``.
        mode: ``linear`` or ``nearest`` (half to even).
        border: what lies outside: ``clamp``, ``zeros`` or ``reflect``.
        out: a tensor that receives the result; no gradient then.

    >>> resample(torch.tensor([[[0.0, 2.0]]]), [4]).tolist()
    [[[0.0, 1.0, 2.0, 2.0]]]
    """
    check_float("x", x)
    if not use_kernel(x):
        result = reference.resample(x, size, rule=rule, mode=mode, border=border)
        return result if out is None else out.copy_(result)
    return _resized(x, size, rule, mode, border, [], out)


@float32_inside("v")
def resize_field(
    v: Tensor,  # (B, D, *S) float, D = number of spatial axes
    size: Sequence[int],
    *,
    rule: str = "half_pixel",
    rescale: bool = True,
    border: str = "clamp",
    out: Tensor | None = None,
) -> Tensor:  # (B, D, *size)
    """Resize a displacement or velocity field in voxels, linearly; differentiable.

    Args:
        v: the field.
        size: the new size.
        rule: where the new voxels lie, see :func:`resample`.
        rescale: multiply component d by ``n_out / n_in`` of axis d, so that the vectors keep their physical length;
            without it the numbers stay (as lab2im does).
        border: ``clamp``, ``zeros`` or ``reflect``.
        out: a tensor that receives the result; no gradient then.

    >>> resize_field(torch.ones(1, 1, 2), [4]).tolist()
    [[[2.0, 2.0, 2.0, 2.0]]]
    """
    check_float("v", v)
    dims = check_volume("v", v)
    if v.shape[1] != dims:
        raise ValueError(f"v must be (B, {dims}, *spatial) with {dims} spatial axes, got {tuple(v.shape)}")
    sizes = check_sizes("size", size, dims)
    if not use_kernel(v):
        result = reference.resize_field(v, sizes, rule=rule, rescale=rescale, border=border)
        return result if out is None else out.copy_(result)
    scale = [m / n for n, m in zip(v.shape[2:], sizes, strict=True)] if rescale else []
    return _resized(v, sizes, rule, "linear", border, scale, out)


@float32_inside("x")
def simulate_resolution(
    x: Tensor,  # (B, C, *S) float
    low_size: Tensor | Sequence[Sequence[int]],  # (B, D) int, on the CPU
    *,
    mode: str = "linear",
    out: Tensor | None = None,
) -> Tensor:  # (B, C, *S)
    """Sample every image on a coarser grid of its own and bring it back to the full one; differentiable in ``x``.

    Down at locations ``i * n / n_low`` (by ``mode``), up at ``i * n_low / n`` (linear), clamped: nothing shifts. An
    axis whose low size is the full size is left exactly as it is.

    Args:
        x: images, already blurred as the slice thickness asks.
        low_size: voxels per axis of each sample's coarse grid, 1 to n.
        mode: how the coarse grid is sampled: ``linear`` or ``nearest``.
        out: a tensor that receives the result; no gradient then.

    >>> simulate_resolution(torch.tensor([[[0.0, 1.0, 4.0, 9.0]]]), [[2]]).tolist()
    [[[0.0, 2.0, 4.0, 4.0]]]
    """
    check_float("x", x)
    dims = check_volume("x", x)
    one_of("mode", mode, MODES)
    low = torch.as_tensor(low_size)
    if low.is_floating_point() or low.dtype == torch.bool:
        raise TypeError(f"low_size must hold integers, got {low.dtype}")
    if low.device.type == "cuda":
        raise RuntimeError("low_size must be on the CPU: the taps of each axis are planned there")
    if tuple(low.shape) != (x.shape[0], dims):
        raise ValueError(f"low_size must be ({x.shape[0]}, {dims}), got {tuple(low.shape)}")
    low = low.to(torch.int64)
    full = torch.tensor(x.shape[2:])
    if not torch.compiler.is_compiling() and low.device.type == "cpu" and bool(((low < 1) | (low > full)).any()):
        raise ValueError(f"low_size must lie between 1 and {tuple(x.shape[2:])}, got {low.tolist()}")
    if not use_kernel(x):
        result = reference.simulate_resolution(x, low, mode=mode)
        return result if out is None else out.copy_(result)
    if out is None:
        return torch.ops.medsynth_ext.simulate_resolution(x, low, MODES.index(mode))
    check_out(out, x.shape, x.dtype, x.device, [x])
    torch.ops.medsynth_ext.simulate_resolution_out(x, low, MODES.index(mode), out)
    return out


def _resample_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, _, *rest = inputs
    ctx.size, ctx.rest = x.shape[2:], rest


def _resample_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    refuse_grad("the gradient of resample", "second derivatives are not offered", grad=grad)
    return torch.ops.medsynth_ext.resample_backward(grad, ctx.size, *ctx.rest, [], []), *[None] * 5


def _simulate_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, low, ctx.mode = inputs
    ctx.save_for_backward(low)


def _simulate_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    refuse_grad("the gradient of simulate_resolution", "second derivatives are not offered", grad=grad)
    return torch.ops.medsynth_ext.simulate_resolution_backward(grad, *ctx.saved_tensors, ctx.mode), None, None


if use_kernel(torch.empty(0)):
    _name = "medsynth_ext::{}".format

    @torch.library.register_fake(_name("resample"))
    def _resample_fake(
        x: Tensor, size: Sequence[int], rule: int, sampling: int, border: int, scale: Sequence[float]
    ) -> Tensor:
        return x.new_empty((*x.shape[:2], *size))

    @torch.library.register_fake(_name("resample_out"))
    def _resample_out_fake(*arguments: Any) -> None:
        return None

    @torch.library.register_fake(_name("resample_backward"))
    def _resample_backward_fake(grad: Tensor, size: Sequence[int], *rest: Any) -> Tensor:
        return grad.new_empty((*grad.shape[:2], *size))

    @torch.library.register_fake(_name("simulate_resolution"))
    def _simulate_fake(x: Tensor, low_size: Tensor, sampling: int) -> Tensor:
        return x.new_empty(x.shape)

    @torch.library.register_fake(_name("simulate_resolution_out"))
    def _simulate_out_fake(x: Tensor, low_size: Tensor, sampling: int, out: Tensor) -> None:
        return None

    @torch.library.register_fake(_name("simulate_resolution_backward"))
    def _simulate_backward_fake(grad: Tensor, low_size: Tensor, sampling: int) -> Tensor:
        return grad.new_empty(grad.shape)

    torch.library.register_autograd(_name("resample"), _resample_backward, setup_context=_resample_setup)
    torch.library.register_autograd(_name("simulate_resolution"), _simulate_backward, setup_context=_simulate_setup)
