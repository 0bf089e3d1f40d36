"""One volume from maps of its slices along three axes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from medsynth_ext.ops import reference
from medsynth_ext.ops._checks import check_float, check_out, check_same, use_kernel
from medsynth_ext.ops._precision import float32_inside

__all__ = ["ortho_slice_product"]

_OPS = torch.ops.medsynth_ext


@float32_inside("z", "y", "x")
def ortho_slice_product(
    z: Tensor,  # (*B, K, I, J)
    y: Tensor,  # (*B, J, K, I)
    x: Tensor,  # (*B, I, J, K)
    *,
    log: bool = False,
    out: Tensor | None = None,
) -> Tensor:  # (*B, I, J, K)
    """Joint probability of three stacks of slices: ``p[i, j, k] = z[k][i, j] * y[j][k, i] * x[i][j, k]``.

    The layout is cyclic: of a volume ``v`` of axes I, J, K the stacks are ``v.permute(2, 0, 1)``, ``v.permute(1, 2,
    0)`` and ``v``; note that the second is not ``v[:, j, :]`` but its transpose. Differentiable in all three, once.

    Args:
        z: slices across the last axis.
        y: slices across the middle axis.
        x: slices across the first axis.
        log: the stacks hold logarithms, and the result is the exponential of their sum: products of tiny numbers that
            the factors themselves could not hold. What falls below the normal numbers of the type is 0.
        out: written to and returned; may be x, not y or z.

    Raises:
        TypeError: when the stacks are not of one float type.
        ValueError: when their shapes do not fit.
        RuntimeError: for tensors on different devices, or ``out`` where a gradient is wanted.

    >>> x = torch.tensor([[[0.5, 1.0]]])  # I = J = 1, K = 2
    >>> ortho_slice_product(torch.tensor([[[0.2]], [[0.4]]]), torch.tensor([[[0.5], [0.5]]]), x)
    tensor([[[0.0500, 0.2000]]])
    """
    for name, stack in (("x", x), ("y", y), ("z", z)):
        check_float(name, stack)
        check_same(name, stack, "x", x)
    if x.ndim < 3:
        raise ValueError(f"x must be (*B, I, J, K), got {tuple(x.shape)}")
    lead, (i, j, k) = x.shape[:-3], x.shape[-3:]
    for name, stack, want in (("y", y, (*lead, j, k, i)), ("z", z, (*lead, k, i, j))):
        if stack.shape != want:
            raise ValueError(f"{name} must be {want} for x of {tuple(x.shape)}, got {tuple(stack.shape)}")
    if out is not None:
        check_out(out, x.shape, x.dtype, x.device, (z, y, x))
        if out.numel() and out.device.type != "meta" and out.data_ptr() in (z.data_ptr(), y.data_ptr()):
            raise ValueError("out must not be the memory of y or z")
    if not use_kernel(x):
        result = reference.ortho_slice_product(z, y, x, log=log)
        return result if out is None else out.copy_(result)
    batch = lead.numel()
    stacks = [stack.reshape(batch, *stack.shape[-3:]) for stack in (z, y, x)]
    if out is None:
        return _OPS.ortho_slice_product(*stacks, log).reshape(x.shape)
    _OPS.ortho_slice_product_out(*stacks, log, out.view(batch, i, j, k))
    return out


if use_kernel(torch.empty(0)):

    @torch.library.register_fake("medsynth_ext::ortho_slice_product")
    def _fake(z: Tensor, y: Tensor, x: Tensor, log: bool) -> Tensor:
        return x.new_empty(x.shape)

    @torch.library.register_fake("medsynth_ext::ortho_slice_product_backward")
    def _backward_fake(grad: Tensor, z: Tensor, y: Tensor, x: Tensor, log: bool) -> tuple[Tensor, Tensor, Tensor]:
        return z.new_empty(z.shape), y.new_empty(y.shape), x.new_empty(x.shape)

    @torch.library.register_fake("medsynth_ext::ortho_slice_product_out")
    def _out_fake(z: Tensor, y: Tensor, x: Tensor, log: bool, out: Tensor) -> None:
        return None

    def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *stacks, ctx.log = inputs
        ctx.save_for_backward(*stacks)

    def _grad(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *_OPS.ortho_slice_product_backward(grad, *ctx.saved_tensors, ctx.log), None

    def _no_second_derivative(ctx: Any, *grads: Any) -> None:
        raise NotImplementedError("ortho_slice_product has no second derivative")

    torch.library.register_autograd("medsynth_ext::ortho_slice_product", _grad, setup_context=_setup)
    torch.library.register_autograd("medsynth_ext::ortho_slice_product_backward", _no_second_derivative)
