"""Warping of images and label maps by displacement fields, matrices, or both at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from medsynth_ext.ops import reference
from medsynth_ext.ops._checks import check_float, check_label, check_out, check_same, one_of, refuse_grad, use_kernel
from medsynth_ext.ops._precision import float32_inside
from medsynth_ext.ops.resampling import BORDERS, check_sizes, check_volume

__all__ = ["affine_svf_warp", "lab2im_matrix", "warp", "warp_labels"]

_MODES = ("linear", "nearest", "vote")
_RULES = ("corner", "half_pixel", "align_corners", "same")


@float32_inside("linear")
def lab2im_matrix(
    linear: Tensor,  # (..., D, D)
    size: Sequence[int],
) -> Tensor:  # (..., D, D + 1)
    """The matrix of ``q = A (w - c) + c`` with the centre ``c = (size - 1) / 2``; differentiable.

    >>> lab2im_matrix(2 * torch.eye(2), (3, 5)).tolist()
    [[2.0, 0.0, -1.0], [0.0, 2.0, -2.0]]
    """
    check_float("linear", linear)
    if linear.ndim < 2 or linear.shape[-1] != linear.shape[-2]:
        raise ValueError(f"linear must be (..., D, D), got {tuple(linear.shape)}")
    check_sizes("size", size, linear.shape[-1])
    return reference.lab2im_matrix(linear, size)


def _check_batches(**tensors: Tensor | None) -> int:
    sizes = {name: t.shape[0] for name, t in tensors.items() if t is not None}
    others = {n for n in sizes.values() if n != 1}
    if len(others) > 1:
        raise ValueError(f"batch sizes must agree or be 1, got {sizes}")
    return others.pop() if others else 1


def _check_disp(disp: Tensor, dims: int) -> None:
    check_float("disp", disp)
    check_volume("disp", disp)
    if disp.ndim != dims + 2 or disp.shape[1] != dims:
        raise ValueError(f"disp must be (B, {dims}, *spatial) with {dims} spatial axes, got {tuple(disp.shape)}")


@float32_inside("img", "disp")
def warp(
    img: Tensor,  # (B, C, *S) float
    disp: Tensor,  # (B, D, *So) in voxels
    *,
    mode: str = "linear",
    border: str = "clamp",
    fill: float = 0.0,
    out: Tensor | None = None,
) -> Tensor:  # (B, C, *So)
    """Pull an image back by a displacement: ``y(x) = img(x + disp(x))``.

    Differentiable in both inputs in linear mode. A NaN location gives NaN.

    Args:
        img: images; a batch of 1 serves all displacements, and the other way round.
        disp: displacement in voxels, component d along spatial axis d.
        mode: ``linear`` or ``nearest`` (half to even).
        border: ``clamp`` (to the edge voxel), ``zeros`` (``fill`` outside) or ``reflect`` (about the edge voxels).
        fill: value outside when the border is ``zeros``.
        out: a tensor that receives the result; no gradient then.

    Raises:
        NotImplementedError: when a gradient is wanted in nearest mode.

    >>> warp(torch.tensor([[[0.0, 10.0, 20.0]]]), torch.full((1, 1, 3), 0.5)).tolist()
    [[[5.0, 15.0, 20.0]]]
    """
    check_float("img", img)
    dims = check_volume("img", img)
    _check_disp(disp, dims)
    check_same("disp", disp, "img", img)
    one_of("mode", mode, _MODES[:2])
    one_of("border", border, BORDERS)
    batch = _check_batches(img=img, disp=disp)
    if mode == "nearest":
        refuse_grad("warp with mode='nearest'", "use mode='linear'", img=img, disp=disp)
    if not use_kernel(img):
        result = reference.warp(img, disp, mode=mode, border=border, fill=fill)
        return result if out is None else out.copy_(result)
    arguments = (_MODES.index(mode), BORDERS.index(border), float(fill))
    if out is None:
        return torch.ops.medsynth_ext.warp(img, disp, *arguments)
    check_out(out, (batch, img.shape[1], *disp.shape[2:]), img.dtype, img.device, [img, disp])
    torch.ops.medsynth_ext.warp_out(img, disp, *arguments, out)
    return out


@float32_inside("labels", "disp")
def warp_labels(
    labels: Tensor,  # (B, C, *S) integer
    disp: Tensor,  # (B, D, *So) in voxels
    *,
    mode: str = "nearest",
    border: str = "clamp",
    fill: int = 0,
    out: Tensor | None = None,
) -> Tensor:  # (B, C, *So), dtype of labels
    """Pull a label map back by a displacement; no gradient.

    ``vote`` takes the label with the largest sum of linear weights among the corners around the location, ties to the
    smallest label: the argmax of the linearly warped one-hot map, without the one-hot map.

    Args:
        labels: integer labels of any kind; the result keeps their dtype.
        disp: displacement in voxels, of any float type.
        mode: ``nearest`` (half to even) or ``vote``.
        border: ``clamp``, ``zeros`` (``fill`` outside) or ``reflect``.
        fill: label outside when the border is ``zeros``.
        out: a tensor that receives the result.

    >>> warp_labels(torch.tensor([[[1, 2, 3]]]), torch.ones(1, 1, 3)).tolist()
    [[[2, 3, 3]]]
    """
    check_label("labels", labels)
    dims = check_volume("labels", labels)
    _check_disp(disp, dims)
    check_same("disp", disp, "labels", labels, dtype=False)
    one_of("mode", mode, _MODES[1:])
    one_of("border", border, BORDERS)
    refuse_grad("warp_labels", "labels cannot be differentiated", disp=disp)
    batch = _check_batches(labels=labels, disp=disp)
    if not use_kernel(labels):
        result = reference.warp_labels(labels, disp, mode=mode, border=border, fill=fill)
        return result if out is None else out.copy_(result)
    arguments = (_MODES.index(mode), BORDERS.index(border), int(fill))
    if out is None:
        return torch.ops.medsynth_ext.warp_labels(labels, disp, *arguments)
    check_out(out, (batch, labels.shape[1], *disp.shape[2:]), labels.dtype, labels.device, [])
    torch.ops.medsynth_ext.warp_labels_out(labels, disp, *arguments, out)
    return out


def _check_matrix(src: Tensor, matrix: Tensor, disp: Tensor | None, mode: str, dims: int) -> None:
    check_float("matrix", matrix)
    if tuple(matrix.shape[1:]) != (dims, dims + 1):
        raise ValueError(f"matrix must be (B, {dims}, {dims + 1}), got {tuple(matrix.shape)}")
    check_same("matrix", matrix, "src", src, dtype=mode == "linear")
    if matrix.device.type == "cpu" and not torch.compiler.is_compiling() and not bool(matrix.isfinite().all()):
        raise ValueError(f"matrix must be finite, got {matrix.tolist()}")
    if disp is not None:
        _check_disp(disp, dims)
        check_same("disp", disp, "src", src, dtype=mode == "linear")


def _check_span(disp: Tensor, rule: str, shape: list[int], origin: list[int], grid: list[int]) -> None:
    """What disp spans: the window, or the grid of shape ``grid`` in which the window begins at ``origin``."""
    full = grid or shape
    if rule == "same" and list(disp.shape[2:]) != full:
        raise ValueError(
            f"disp must have the spatial shape {tuple(full)} when disp_rule is 'same', got {tuple(disp.shape)}"
        )
    start = origin if grid and origin else [0] * len(shape)
    if any(o < 0 or o + n > m for o, n, m in zip(start, shape, full, strict=True)):
        raise ValueError(f"the window {tuple(shape)} at {tuple(start)} leaves the grid {tuple(full)} that disp spans")


@float32_inside("src", "matrix", "disp")
def affine_svf_warp(
    src: Tensor,  # (B, C, *S) integer labels or float image
    matrix: Tensor,  # (B, D, D + 1)
    disp: Tensor | None = None,  # (B, D, *Sd) in voxels of the output grid
    *,
    out_shape: Sequence[int],
    out_origin: Sequence[int] | None = None,
    grid_shape: Sequence[int] | None = None,
    disp_rule: str = "same",
    mode: str = "nearest",
    border: str = "clamp",
    fill: float = 0.0,
    out: Tensor | None = None,
) -> Tensor:  # (B, C, *out_shape)
    """Sample ``src`` at ``q = M[:, :D] w + M[:, D]`` with ``w = x + d(x)``: affine and displacement in one sampling.

    x runs over the window of ``out_shape`` voxels that begins at ``out_origin``. The displacement may live on a coarser
    grid; it is then resized on the fly, without changing its numbers. Differentiable in ``src``, ``matrix`` and
    ``disp`` in linear mode.

    Args:
        src: label map (kept in its dtype) or image; a batch of 1 serves all.
        matrix: voxel to voxel, may scale; see :func:`lab2im_matrix`.
        disp: displacement, or None.
        out_shape: shape of the window.
        out_origin: first voxel of the window, 0 by default.
        grid_shape: shape of the whole output grid that ``disp`` spans; by default it spans the window.
        disp_rule: ``same`` (disp on that grid), or how it is resized to it: ``corner``, ``half_pixel``,
            ``align_corners``.
        mode: ``nearest``, or ``linear`` for images.
        border: ``clamp``, ``zeros`` (``fill`` outside) or ``reflect``.
        fill: value outside when the border is ``zeros``.
        out: a tensor that receives the result; no gradient then.

    >>> matrix = lab2im_matrix(torch.eye(1), (4,))[None]
    >>> affine_svf_warp(torch.tensor([[[1, 2, 3, 4]]]), matrix, out_shape=(2,), out_origin=(1,)).tolist()
    [[[2, 3]]]
    """
    one_of("mode", mode, _MODES[:2])
    if mode == "linear":
        check_float("src", src)
    elif not isinstance(src, Tensor) or not src.is_floating_point():
        check_label("src", src)
    else:
        check_float("src", src)
    dims = check_volume("src", src)
    one_of("border", border, BORDERS)
    one_of("disp_rule", disp_rule, _RULES)
    _check_matrix(src, matrix, disp, mode, dims)
    shape = check_sizes("out_shape", out_shape, dims)
    origin = check_sizes("out_origin", out_origin, dims, -(2**40)) if out_origin is not None else []
    grid = check_sizes("grid_shape", grid_shape, dims) if grid_shape is not None else []
    if disp is not None:
        _check_span(disp, disp_rule, shape, origin, grid)
    batch = _check_batches(src=src, matrix=matrix, disp=disp)
    if mode == "nearest":
        floats = src if src.is_floating_point() else None
        refuse_grad("affine_svf_warp with mode='nearest'", "use mode='linear'", src=floats, matrix=matrix, disp=disp)
    if not use_kernel(src):
        result = reference.affine_svf_warp(
            src,
            matrix,
            disp,
            out_shape=shape,
            out_origin=origin or None,
            grid_shape=grid or None,
            disp_rule=disp_rule,
            mode=mode,
            border=border,
            fill=fill,
        )
        return result if out is None else out.copy_(result)
    codes = (_RULES.index(disp_rule), _MODES.index(mode), BORDERS.index(border), float(fill))
    if out is None:
        return torch.ops.medsynth_ext.affine_svf_warp(src, matrix, disp, shape, origin, grid, *codes)
    inputs = [t for t in (src, matrix, disp) if t is not None]
    check_out(out, (batch, src.shape[1], *shape), src.dtype, src.device, inputs)
    torch.ops.medsynth_ext.affine_svf_warp_out(src, matrix, disp, shape, origin, grid, *codes, out)
    return out


def _reduce(grad: Tensor, like: Tensor) -> Tensor:
    """Sum the batch where one sample served all."""
    return grad.sum(0, keepdim=True) if like.shape[0] == 1 and grad.shape[0] != 1 else grad


def _warp_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    img, disp, _, ctx.border, ctx.fill = inputs
    ctx.save_for_backward(img, disp)


def _warp_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    refuse_grad("the gradient of warp", "second derivatives are not offered", grad=grad)
    img, disp = ctx.saved_tensors
    want_img, want_disp = ctx.needs_input_grad[:2]
    grads = torch.ops.medsynth_ext.warp_backward(grad, img, disp, ctx.border, ctx.fill, want_img, want_disp)
    grad_img = _reduce(grads[0], img) if want_img else None
    return grad_img, _reduce(grads[1], disp) if want_disp else None, None, None, None


def _affine_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    src, matrix, disp, ctx.shape, ctx.origin, ctx.grid, ctx.rule, _, ctx.border, ctx.fill = inputs
    ctx.save_for_backward(src, matrix, disp)


def _affine_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    refuse_grad("the gradient of affine_svf_warp", "second derivatives are not offered", grad=grad)
    src, matrix, disp = ctx.saved_tensors
    wanted = ctx.needs_input_grad[:3]
    window = (ctx.shape, ctx.origin, ctx.grid, ctx.rule, ctx.border, ctx.fill)
    grad_src, grad_moved, grad_matrix = torch.ops.medsynth_ext.affine_svf_warp_backward(
        grad, src, matrix, disp, *window, wanted[0], wanted[2], wanted[1]
    )
    grad_disp = None
    if wanted[2]:
        full = ctx.grid or ctx.shape
        origin = ctx.origin if ctx.grid else []
        grad_disp = torch.ops.medsynth_ext.resample_backward(
            _reduce(grad_moved, disp), disp.shape[2:], ctx.rule, 0, 0, [], full, origin
        )
    return (
        _reduce(grad_src, src) if wanted[0] else None,
        _reduce(grad_matrix, matrix).to(matrix.dtype) if wanted[1] else None,
        grad_disp,
        *[None] * 7,
    )


if use_kernel(torch.empty(0)):
    _name = "medsynth_ext::{}".format

    def _batch(*tensors: Tensor | None) -> int:
        return next((t.shape[0] for t in tensors if t is not None and t.shape[0] != 1), 1)

    def _warp_fake(img: Tensor, disp: Tensor, sampling: int, border: int, fill: float) -> Tensor:
        return img.new_empty((_batch(img, disp), img.shape[1], *disp.shape[2:]))

    def _affine_fake(src: Tensor, matrix: Tensor, disp: Tensor | None, out_shape: Sequence[int], *rest: Any) -> Tensor:
        return src.new_empty((_batch(src, matrix, disp), src.shape[1], *out_shape))

    def _nothing(*arguments: Any) -> None:
        return None

    @torch.library.register_fake(_name("warp_backward"))
    def _warp_backward_fake(
        grad: Tensor, img: Tensor, disp: Tensor, border: int, fill: float, want_img: bool, want_disp: bool
    ) -> tuple[Tensor, Tensor]:
        batch = grad.shape[0]
        grad_img = img.new_empty((batch, *img.shape[1:]) if want_img else (0,))
        return grad_img, img.new_empty((batch, *disp.shape[1:]) if want_disp else (0,))

    @torch.library.register_fake(_name("affine_svf_warp_backward"))
    def _affine_backward_fake(
        grad: Tensor, src: Tensor, matrix: Tensor, disp: Tensor | None, out_shape: Sequence[int], *rest: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        want_src, want_moved, want_matrix = rest[-3:]
        batch, dims = grad.shape[0], matrix.shape[1]
        grad_src = src.new_empty((batch, *src.shape[1:]) if want_src else (0,))
        grad_moved = src.new_empty((batch, dims, *out_shape) if want_moved else (0,))
        shape = (batch, dims, dims + 1) if want_matrix else (0,)
        return grad_src, grad_moved, src.new_empty(shape, dtype=torch.float64)

    for _op, _fake in (("warp", _warp_fake), ("warp_labels", _warp_fake), ("affine_svf_warp", _affine_fake)):
        torch.library.register_fake(_name(_op), _fake)
        torch.library.register_fake(_name(f"{_op}_out"), _nothing)
    torch.library.register_autograd(_name("warp"), _warp_backward, setup_context=_warp_setup)
    torch.library.register_autograd(_name("affine_svf_warp"), _affine_backward, setup_context=_affine_setup)
