"""Velocity fields and displacements: integration, composition, Jacobian determinants and points.

A displacement ``u`` of shape (B, D, *S) is in voxels of its own grid and pulls back: the warped image is
``image(x + u(x))``. Component ``d`` moves along spatial axis ``d``; voxel centres are at integers. ``border`` says what
lies outside the grid: "clamp" repeats the edge, "zeros" counts as 0, "reflect" mirrors about the outermost centres.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from medsynth_ext.ops import reference
from medsynth_ext.ops._checks import check_float, check_out, check_same, one_of, use_kernel
from medsynth_ext.ops._precision import float32_inside

__all__ = ["compose", "integrate_svf", "jacobian_determinant", "warp_points"]

_BORDERS = ("clamp", "zeros", "reflect")
_OPS = torch.ops.medsynth_ext


@float32_inside("velocity")
def integrate_svf(
    velocity: Tensor,  # (B, D, *S) in voxels, D = number of spatial axes (1 to 3)
    steps: int = 7,
    *,
    border: str = "clamp",
    inverse: bool = False,
    checkpoint: bool = True,
    out: Tensor | None = None,  # like velocity
) -> Tensor:  # (B, D, *S)
    """Integrate a stationary velocity field by scaling and squaring (Arsigny et al., MICCAI 2006).

    ``u_0 = v / 2**steps`` and ``u_{k+1}(x) = u_k(x) + u_k(x + u_k(x))`` with linear interpolation; returns ``u_steps``,
    the displacement at time one. ``steps=0`` returns the velocity.

    Args:
        velocity: velocity field.
        steps: number of squarings, 0 to 16.
        border: "clamp", "zeros" or "reflect".
        inverse: integrate ``-v``, which gives the inverse displacement.
        checkpoint: the backward pass computes the intermediate fields again; ``False`` keeps all of them from the
            forward pass, which is faster and takes ``steps`` fields of four numbers a voxel.
        out: where to write the result.

    Raises:
        TypeError: for another dtype.
        ValueError: for another shape, number of steps or border.

    >>> integrate_svf(torch.full((1, 1, 4), 0.5)).tolist()
    [[[0.5, 0.5, 0.5, 0.5]]]
    """
    _check_field("velocity", velocity)
    if isinstance(steps, bool) or not isinstance(steps, int):
        raise TypeError(f"steps must be an int, got {type(steps).__name__}")
    if not 0 <= steps <= 16:
        raise ValueError(f"steps must be in 0..16, got {steps}")
    one_of("border", border, _BORDERS)
    if out is not None:
        check_out(out, velocity.shape, velocity.dtype, velocity.device, (velocity,))
        _refuse_overlap(out, velocity=velocity)
    if not use_kernel(velocity):
        result = reference.integrate_svf(velocity, steps, border=border, inverse=inverse)
        return result if out is None else out.copy_(result)
    code = _BORDERS.index(border)
    if out is not None:
        _OPS.integrate_svf_out(velocity, steps, code, inverse, out)
        return out
    if not checkpoint and velocity.requires_grad and torch.is_grad_enabled():
        return _OPS.integrate_svf_saving(velocity, steps, code, inverse)[0]
    return _OPS.integrate_svf(velocity, steps, code, inverse)


@float32_inside("u1", "u2")
def compose(
    u1: Tensor,  # (B or 1, D, *S)
    u2: Tensor,  # (B or 1, D, *S)
    *,
    border: str = "clamp",
    out: Tensor | None = None,  # (B, D, *S)
) -> Tensor:  # (B, D, *S)
    """The displacement ``w(x) = u2(x) + u1(x + u2(x))``: warping by ``u1`` and then by ``u2`` equals one warp by ``w``.

    Raises:
        TypeError: when the fields are not of one float dtype.
        ValueError: when their shapes do not fit, or for another border.
        RuntimeError: when they are on different devices.

    >>> compose(torch.full((1, 1, 4), 1.0), torch.full((1, 1, 4), 0.5)).tolist()
    [[[1.5, 1.5, 1.5, 1.5]]]
    """
    _check_field("u1", u1)
    _check_field("u2", u2)
    check_same("u2", u2, "u1", u1)
    one_of("border", border, _BORDERS)
    if u1.shape[1:] != u2.shape[1:]:
        raise ValueError(f"u1 and u2 must be on one grid, got {tuple(u1.shape)} and {tuple(u2.shape)}")
    if u1.shape[0] != u2.shape[0] and 1 not in (u1.shape[0], u2.shape[0]):
        raise ValueError(f"u1 and u2 must have one batch size, or 1, got {u1.shape[0]} and {u2.shape[0]}")
    if out is not None:
        check_out(out, _joint_shape(u1, u2), u2.dtype, u2.device, (u1, u2))
        _refuse_overlap(out, u1=u1, u2=u2)
    if not use_kernel(u2):
        result = reference.compose(u1, u2, border=border)
        return result if out is None else out.copy_(result)
    if out is None:
        return _OPS.compose(u1, u2, _BORDERS.index(border))
    _OPS.compose_out(u1, u2, _BORDERS.index(border), out)
    return out


@float32_inside("displacement")
def jacobian_determinant(
    displacement: Tensor,  # (B, D, *S) in voxels
    *,
    out: Tensor | None = None,  # (B, 1, *S)
) -> Tensor:  # (B, 1, *S)
    """Determinant of ``I + grad u`` at every voxel: above 0 where the deformation does not fold.

    Central differences inside, one-sided ones at the ends of an axis, 0 along an axis of one voxel.

    >>> jacobian_determinant(torch.tensor([[[0.0, 0.5, 1.0, 1.5]]])).tolist()
    [[[1.5, 1.5, 1.5, 1.5]]]
    """
    _check_field("displacement", displacement)
    if out is not None:
        shape = (displacement.shape[0], 1, *displacement.shape[2:])
        check_out(out, shape, displacement.dtype, displacement.device, (displacement,))
        _refuse_overlap(out, displacement=displacement)
    if not use_kernel(displacement):
        result = reference.jacobian_determinant(displacement)
        return result if out is None else out.copy_(result)
    if out is None:
        return _OPS.jacobian_determinant(displacement)
    _OPS.jacobian_determinant_out(displacement, out)
    return out


@float32_inside("points", "displacement")
def warp_points(
    points: Tensor,  # (B, N, D) index coordinates
    displacement: Tensor,  # (B or 1, D, *S) in voxels
    *,
    direction: str,
    border: str = "clamp",
    max_iterations: int = 30,
    tolerance: float = 1e-3,
    out: Tensor | None = None,  # (B, N, D)
) -> Tensor | tuple[Tensor, Tensor]:
    """Move points along a displacement, or find where they come out of an image warped by it.

    A warped image is ``image(x + u(x))``: a landmark at ``p`` of the image appears at the ``y`` with ``y + u(y) = p``.
    ``direction="inverse"`` finds that ``y`` by the fixed point ``y <- p - u(y)``; ``"forward"`` returns ``p + u(p)``.
    With a velocity field at hand, ``forward`` along ``integrate_svf(v, inverse=True)`` does without iterations.

    Args:
        points: positions in voxels of the displacement's grid.
        displacement: displacement field.
        direction: "forward" or "inverse".
        border: what the displacement is outside its grid.
        max_iterations: of the fixed point; a field that stretches by 2 or more may need more or not converge.
        tolerance: largest last move, in voxels, of a point that has converged.
        out: where to write the positions.

    Returns:
        The positions (B, N, D); for "inverse" also a mask (B, N) of the points that converged. The gradient of the
        inverse is that of the implicit function: ``dy/dp = (I + Du)^-1``.

    >>> shift = torch.full((1, 1, 8), 2.0)
    >>> warp_points(torch.tensor([[[5.0]]]), shift, direction="inverse")
    (tensor([[[3.]]]), tensor([[True]]))
    """
    _check_field("displacement", displacement)
    check_float("points", points)
    check_same("points", points, "displacement", displacement)
    one_of("direction", direction, ("forward", "inverse"))
    one_of("border", border, _BORDERS)
    dims = displacement.shape[1]
    if points.ndim != 3 or points.shape[2] != dims:
        raise ValueError(f"points must be (B, N, {dims}), got {tuple(points.shape)}")
    if displacement.shape[0] not in (1, points.shape[0]):
        raise ValueError(f"displacement must have batch 1 or {points.shape[0]}, got {displacement.shape[0]}")
    if max_iterations < 1:
        raise ValueError(f"max_iterations must be at least 1, got {max_iterations}")
    if not tolerance > 0:
        raise ValueError(f"tolerance must be above 0, got {tolerance}")
    if out is not None:
        check_out(out, points.shape, points.dtype, points.device, (points, displacement))
    result = reference.warp_points(
        points,
        displacement,
        direction=direction,
        border=border,
        max_iterations=max_iterations,
        tolerance=tolerance,
    )
    if out is None:
        return result
    if isinstance(result, Tensor):
        return out.copy_(result)
    return out.copy_(result[0]), result[1]


def _check_field(name: str, field: Tensor) -> None:
    check_float(name, field)
    dims = field.ndim - 2
    if not 1 <= dims <= 3 or field.shape[1] != dims:
        raise ValueError(f"{name} must be (B, 1, W), (B, 2, H, W) or (B, 3, D, H, W), got {tuple(field.shape)}")
    if field.shape[0] and 0 in field.shape:
        raise ValueError(f"{name} must have at least one voxel along every axis, got {tuple(field.shape)}")


def _refuse_overlap(out: Tensor, **inputs: Tensor) -> None:
    for name, tensor in inputs.items():
        if out.device.type != "meta" and not torch.compiler.is_compiling() and out.data_ptr() == tensor.data_ptr() != 0:
            raise ValueError(f"out must not be the memory of {name}")


def _joint_shape(u1: Tensor, u2: Tensor) -> tuple[int, ...]:
    return (u2.shape[0] if u1.shape[0] == 1 else u1.shape[0], *u2.shape[1:])


def _summed_to(grad: Tensor, like: Tensor) -> Tensor:
    """The gradient of an input that the whole batch shared is the sum over the batch."""
    return grad if grad.shape == like.shape else grad.sum(0, keepdim=True)


def _register_integrate_svf() -> None:
    def setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        velocity, ctx.steps, ctx.border, ctx.inverse = inputs
        levels = velocity.new_empty(0)
        if isinstance(output, tuple):
            levels = output[1]
            ctx.mark_non_differentiable(levels)
        ctx.save_for_backward(velocity, levels)

    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor, None, None, None]:
        velocity, levels = ctx.saved_tensors
        return _OPS.integrate_svf_backward(grad, velocity, levels, ctx.steps, ctx.border, ctx.inverse), None, None, None

    @torch.library.register_fake("medsynth_ext::integrate_svf")
    def _fake(velocity: Tensor, steps: int, border: int, inverse: bool) -> Tensor:
        return torch.empty_like(velocity, memory_format=torch.contiguous_format)

    @torch.library.register_fake("medsynth_ext::integrate_svf_saving")
    def _saving_fake(velocity: Tensor, steps: int, border: int, inverse: bool) -> tuple[Tensor, Tensor]:
        voxels = velocity[0, 0].numel() if velocity.shape[0] else 0
        levels = velocity.new_empty((velocity.shape[0], steps, voxels, 4))
        return torch.empty_like(velocity, memory_format=torch.contiguous_format), levels

    @torch.library.register_fake("medsynth_ext::integrate_svf_out")
    def _out_fake(velocity: Tensor, steps: int, border: int, inverse: bool, out: Tensor) -> None:
        return None

    @torch.library.register_fake("medsynth_ext::integrate_svf_backward")
    def _backward_fake(
        grad: Tensor, velocity: Tensor, levels: Tensor, steps: int, border: int, inverse: bool
    ) -> Tensor:
        return torch.empty_like(velocity, memory_format=torch.contiguous_format)

    torch.library.register_autograd("medsynth_ext::integrate_svf", backward, setup_context=setup)
    torch.library.register_autograd("medsynth_ext::integrate_svf_saving", backward, setup_context=setup)
    _refuse_second_derivative("integrate_svf")


def _register_compose() -> None:
    def setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        u1, u2, ctx.border = inputs
        ctx.save_for_backward(u1, u2)

    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        u1, u2 = ctx.saved_tensors
        grad_u1, grad_u2 = _OPS.compose_backward(grad, u1, u2, ctx.border)
        return _summed_to(grad_u1, u1), _summed_to(grad_u2, u2), None

    @torch.library.register_fake("medsynth_ext::compose")
    def _fake(u1: Tensor, u2: Tensor, border: int) -> Tensor:
        return u2.new_empty(_joint_shape(u1, u2))

    @torch.library.register_fake("medsynth_ext::compose_out")
    def _out_fake(u1: Tensor, u2: Tensor, border: int, out: Tensor) -> None:
        return None

    @torch.library.register_fake("medsynth_ext::compose_backward")
    def _backward_fake(grad: Tensor, u1: Tensor, u2: Tensor, border: int) -> tuple[Tensor, Tensor]:
        return grad.new_empty(grad.shape), grad.new_empty(grad.shape)

    torch.library.register_autograd("medsynth_ext::compose", backward, setup_context=setup)
    _refuse_second_derivative("compose")


def _register_jacobian_determinant() -> None:
    def setup(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _OPS.jacobian_determinant_backward(grad, *ctx.saved_tensors)

    @torch.library.register_fake("medsynth_ext::jacobian_determinant")
    def _fake(displacement: Tensor) -> Tensor:
        return displacement.new_empty((displacement.shape[0], 1, *displacement.shape[2:]))

    @torch.library.register_fake("medsynth_ext::jacobian_determinant_out")
    def _out_fake(displacement: Tensor, out: Tensor) -> None:
        return None

    @torch.library.register_fake("medsynth_ext::jacobian_determinant_backward")
    def _backward_fake(grad: Tensor, displacement: Tensor) -> Tensor:
        return torch.empty_like(displacement, memory_format=torch.contiguous_format)

    torch.library.register_autograd("medsynth_ext::jacobian_determinant", backward, setup_context=setup)
    _refuse_second_derivative("jacobian_determinant")


def _refuse_second_derivative(name: str) -> None:
    def backward(ctx: Any, *grads: Any) -> None:
        raise NotImplementedError(f"{name} has no second derivative")

    torch.library.register_autograd(f"medsynth_ext::{name}_backward", backward)


if use_kernel(torch.empty(0)):
    _register_integrate_svf()
    _register_compose()
    _register_jacobian_determinant()
