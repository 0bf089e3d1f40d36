"""X-ray projection of volumes, its exact transpose, and voxel-driven back-projection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from medsynth_ext.ops import reference
from medsynth_ext.ops._checks import check_float, check_out, one_of, refuse_grad, use_kernel
from medsynth_ext.ops._precision import float32_inside
from medsynth_ext.ops.ct_geometry import CTGeometry

__all__ = ["check_projections", "check_volume", "ct_adjoint", "ct_backproject", "ct_forward"]

_MODELS = ("joseph", "siddon")
_WEIGHTS = ("none", "fdk")


def _check_geometry(geometry: CTGeometry) -> None:
    if not isinstance(geometry, CTGeometry):
        raise TypeError(f"geometry must be a CTGeometry, got {type(geometry).__name__}")


def _check_tail(name: str, value: Tensor, tail: tuple[int, ...], what: str) -> None:
    check_float(name, value)
    if value.ndim < len(tail) or tuple(value.shape[value.ndim - len(tail) :]) != tail:
        raise ValueError(f"{name} must be (..., {', '.join(map(str, tail))}), {what}, got {tuple(value.shape)}")


def check_volume(vol: Tensor, geometry: CTGeometry) -> None:
    """Raise unless ``vol`` is a float tensor that ends in the geometry's volume shape."""
    _check_geometry(geometry)
    _check_tail("vol", vol, geometry.vol_shape, "the geometry's vol_shape")


def check_projections(proj: Tensor, geometry: CTGeometry) -> None:
    """Raise unless ``proj`` is a float tensor that ends in the geometry's (views, *det_shape)."""
    _check_geometry(geometry)
    _check_tail("proj", proj, geometry.proj_shape, "the geometry's (views, *det_shape)")


def _arguments(geometry: CTGeometry, like: Tensor, model: str, *, adjoint: bool) -> tuple[Any, ...]:
    """What the operators take after the input."""
    vol, det, spacing, center = geometry.padded()
    table = geometry.frame_table(like.device)
    siddon = model == "siddon"
    return table, vol if adjoint else det, spacing, center, geometry.diverging, geometry.dims == 2, siddon


def _run(
    operator: str,
    source: Tensor,
    geometry: CTGeometry,
    arguments: Callable[[], tuple[Any, ...]],
    out: Tensor | None,
    *,
    to_volume: bool,
    **options: Any,
) -> Tensor:
    """Run an operator with its arguments, or its twin with these options, over leading axes; into ``out`` if given."""
    result = geometry.vol_shape if to_volume else geometry.proj_shape
    shape = (*source.shape[: source.ndim - geometry.dims], *result)
    if out is not None:
        check_out(out, shape, source.dtype, source.device, (source,))
    if not use_kernel(source):
        return getattr(reference, operator)(source, geometry, **options, out=out)
    vol, det = geometry.padded()[:2]
    ends = (vol, (geometry.views, *det))
    flat = source.reshape(-1, *ends[to_volume])
    if out is None:
        return getattr(torch.ops.medsynth_ext, operator)(flat, *arguments()).reshape(shape)
    getattr(torch.ops.medsynth_ext, f"{operator}_out")(flat, *arguments(), out.view(-1, *ends[not to_volume]))
    return out


@float32_inside("vol")
def ct_forward(
    vol: Tensor,  # (..., *vol_shape), 1/mm
    geometry: CTGeometry,
    *,
    model: str = "joseph",
    out: Tensor | None = None,
) -> Tensor:  # (..., views, *det_shape)
    """Line integrals of a volume along the rays of a scan; differentiable in ``vol`` to any order.

    Joseph's model samples each slice of a ray's main axis (the one along which it passes most voxels) linearly (2-D)
    or bilinearly (3-D), with zeros outside the volume. Siddon's takes the exact length in every voxel. The gradient is
    :func:`ct_adjoint`, the exact transpose. A volume that is not finite makes the rays that meet it not finite, and on
    the CPU neighbouring rays may follow.

    Args:
        vol: volumes, float32 or float64; leading axes are batch and channels.
        geometry: the scan.
        model: ``joseph`` or ``siddon``.
        out: a tensor that receives the result; no gradient then.

    Raises:
        TypeError: for another dtype, or something that is not a geometry.
        ValueError: for a shape that is not the geometry's, or another model.
        RuntimeError: for ``out`` where a gradient is wanted.

    >>> geometry = CTGeometry.parallel2d([0.0], 3, 1.0, (4, 3), spacing_mm=2.0)
    >>> ct_forward(torch.ones(4, 3), geometry).tolist()
    [[8.0, 8.0, 8.0]]
    """
    check_volume(vol, geometry)
    one_of("model", model, _MODELS)
    arguments = partial(_arguments, geometry, vol, model, adjoint=False)
    return _run("ct_forward", vol, geometry, arguments, out, to_volume=False, model=model)


@float32_inside("proj")
def ct_adjoint(
    proj: Tensor,  # (..., views, *det_shape)
    geometry: CTGeometry,
    *,
    model: str = "joseph",
    out: Tensor | None = None,
) -> Tensor:  # (..., *vol_shape)
    """The exact transpose of :func:`ct_forward`: ``<ct_forward(x), y> = <x, ct_adjoint(y)>``; differentiable.

    Each voxel gets ``sum over rays of weight * proj`` with the weights that :func:`ct_forward` gives that voxel. For
    the back-projection of filtered projections see :func:`ct_backproject`.

    Args:
        proj: projections, float32 or float64; leading axes are batch and channels.
        geometry: the scan.
        model: ``joseph`` or ``siddon``.
        out: a tensor that receives the result; no gradient then.

    Raises:
        TypeError: for another dtype, or something that is not a geometry.
        ValueError: for a shape that is not the geometry's, or another model.
        RuntimeError: for ``out`` where a gradient is wanted.

    >>> geometry = CTGeometry.parallel2d([0.0], 3, 1.0, (2, 3))
    >>> ct_adjoint(torch.tensor([[1.0, 2.0, 3.0]]), geometry).tolist()
    [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]
    """
    check_projections(proj, geometry)
    one_of("model", model, _MODELS)
    arguments = partial(_arguments, geometry, proj, model, adjoint=True)
    return _run("ct_adjoint", proj, geometry, arguments, out, to_volume=True, model=model)


@float32_inside("proj")
def ct_backproject(
    proj: Tensor,  # (..., views, *det_shape)
    geometry: CTGeometry,
    *,
    weight: str = "none",
    scale: Tensor | None = None,  # (views,)
    out: Tensor | None = None,
) -> Tensor:  # (..., *vol_shape)
    """Voxel-driven back-projection: every voxel sums the projections at the places where it is seen; differentiable.

    The place is the projection of the voxel's centre; the projections are read linearly there, with zeros outside the
    detector. This is the back-projection of filtered projections; the transpose of :func:`ct_forward` is
    :func:`ct_adjoint`. A projection that is not finite reaches the voxels that are seen there, and on the CPU their
    neighbours.

    Args:
        proj: projections, float32 or float64; leading axes are batch and channels.
        geometry: the scan.
        weight: ``none``, or ``fdk``: ``(R / U)**2`` with U the distance from the source along the central ray and R
            that of the axis (1 for parallel beams); needs a circular scan.
        scale: a factor per view, 1 by default; no gradient to it.
        out: a tensor that receives the result; no gradient then.

    Raises:
        TypeError: for another dtype, or something that is not a geometry.
        ValueError: for a shape that is not the geometry's, another weight, or ``fdk`` without an orbit.
        RuntimeError: for ``out`` where a gradient is wanted.
        NotImplementedError: when ``scale`` requires a gradient.

    >>> geometry = CTGeometry.parallel2d([0.0], 3, 1.0, (2, 3))
    >>> ct_backproject(torch.tensor([[1.0, 2.0, 3.0]]), geometry).tolist()
    [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]
    """
    check_projections(proj, geometry)
    one_of("weight", weight, _WEIGHTS)
    if weight == "fdk" and geometry.orbit is None:
        raise ValueError("weight='fdk' needs a circular scan, but this geometry has no orbit; use weight='none'")
    if scale is not None:
        refuse_grad("ct_backproject", "multiply the projections instead", scale=scale)
        if scale.shape != (geometry.views,):
            raise ValueError(f"scale must be ({geometry.views},), one number a view, got {tuple(scale.shape)}")

    def arguments() -> tuple[Any, ...]:
        table = geometry.matrix_table(proj.device)
        factors = torch.ones(geometry.views) if scale is None else scale.detach()
        weighted = weight == "fdk" and geometry.diverging
        return table, factors.to(table.device, torch.float64), geometry.padded()[0], weighted

    return _run("ct_backproject", proj, geometry, arguments, out, to_volume=True, weight=weight, scale=scale)


if use_kernel(torch.empty(0)):
    _name = "medsynth_ext::{}".format

    def _nothing(*arguments: Any) -> None:
        return None

    @torch.library.register_fake(_name("ct_forward"))
    def _forward_fake(vol: Tensor, vectors: Tensor, det_shape: Sequence[int], *rest: Any) -> Tensor:
        return vol.new_empty((vol.shape[0], vectors.shape[0], *det_shape))

    @torch.library.register_fake(_name("ct_adjoint"))
    def _adjoint_fake(proj: Tensor, vectors: Tensor, vol_shape: Sequence[int], *rest: Any) -> Tensor:
        return proj.new_empty((proj.shape[0], *vol_shape))

    @torch.library.register_fake(_name("ct_backproject"))
    def _backproject_fake(
        proj: Tensor, matrices: Tensor, scale: Tensor, vol_shape: Sequence[int], *rest: Any
    ) -> Tensor:
        return proj.new_empty((proj.shape[0], *vol_shape))

    @torch.library.register_fake(_name("ct_backproject_transposed"))
    def _transposed_fake(vol: Tensor, matrices: Tensor, scale: Tensor, det_shape: Sequence[int], *rest: Any) -> Tensor:
        return vol.new_empty((vol.shape[0], matrices.shape[0], *det_shape))

    def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        source, vectors, _, *ctx.rest = inputs
        ctx.save_for_backward(vectors)
        ctx.shape = list(source.shape)

    def _forward_grad(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        (vectors,) = ctx.saved_tensors
        back = torch.ops.medsynth_ext.ct_adjoint(grad, vectors, ctx.shape[1:], *ctx.rest)
        return back, *[None] * 7

    def _adjoint_grad(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        (vectors,) = ctx.saved_tensors
        back = torch.ops.medsynth_ext.ct_forward(grad, vectors, ctx.shape[2:], *ctx.rest)
        return back, *[None] * 7

    def _backproject_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        source, matrices, scale, _, ctx.weighted = inputs
        ctx.save_for_backward(matrices, scale)
        ctx.shape = list(source.shape)

    def _backproject_grad(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        matrices, scale = ctx.saved_tensors
        op = torch.ops.medsynth_ext.ct_backproject_transposed
        return op(grad, matrices, scale, ctx.shape[2:], ctx.weighted), *[None] * 4

    def _transposed_grad(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        matrices, scale = ctx.saved_tensors
        op = torch.ops.medsynth_ext.ct_backproject
        return op(grad, matrices, scale, ctx.shape[1:], ctx.weighted), *[None] * 4

    for _op in ("ct_forward", "ct_adjoint", "ct_backproject"):
        torch.library.register_fake(_name(f"{_op}_out"), _nothing)
    torch.library.register_autograd(_name("ct_forward"), _forward_grad, setup_context=_setup)
    torch.library.register_autograd(_name("ct_adjoint"), _adjoint_grad, setup_context=_setup)
    torch.library.register_autograd(_name("ct_backproject"), _backproject_grad, setup_context=_backproject_setup)
    torch.library.register_autograd(
        _name("ct_backproject_transposed"), _transposed_grad, setup_context=_backproject_setup
    )
