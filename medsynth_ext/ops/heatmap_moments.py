"""Places of landmarks as moments of heatmaps, differentiable."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from medsynth_ext.ops import reference
from medsynth_ext.ops._checks import check_float, check_same, use_kernel
from medsynth_ext.ops._precision import widened

__all__ = ["heatmap_moments", "soft_argmax"]

_SOFTMAX, _LINEAR = 0, 1


def soft_argmax(
    h: Tensor,  # (B, N, *S)
    *,
    beta: float | Tensor | None = 1.0,
    window: int | None = None,
    return_cov: bool = False,
    normalised: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:  # (B, N, D), and (B, N, D, D)
    """The mean place under ``softmax(beta h)``, and its covariance; differentiable in h and beta.

    With ``beta=None`` the weights are ``max(h, 0)`` over their sum; a map without a positive voxel then has NaN
    moments. A map with a NaN among the voxels that count, or without a finite maximum under a softmax, has them too.
    Sums are taken about the largest voxel and put together in float64.

    Args:
        h: maps; float16 and bfloat16 are read as float32, and the results are float32.
        beta: inverse temperature, a number or a scalar tensor that may need a gradient; ``None`` for no softmax.
        window: only voxels within this many of the largest one along every axis count (and get a gradient).
        return_cov: also return the covariance.
        normalised: coordinates as ``2 (r + 0.5) / size - 1``, which is -1 and 1 at the outer edges of the outer voxels.

    >>> soft_argmax(torch.tensor([[[0.0, 5.0, 5.0, 0.0]]]), beta=4.0)
    tensor([[[1.5000]]])
    """
    h = widened(h)
    check_float("h", h)
    if not 3 <= h.ndim <= 5 or 0 in h.shape[2:]:
        raise ValueError(f"h must be (B, N, *S) with one to three spatial axes, none empty, got {tuple(h.shape)}")
    if window is not None and window < 1:
        raise ValueError(f"window must be at least 1 or None, got {window}")
    if isinstance(beta, Tensor):
        if beta.ndim:
            raise ValueError(f"beta must be a number or a scalar tensor, got {tuple(beta.shape)}")
        check_same("beta", beta, "h", h, dtype=False)
    elif beta is not None and not math.isfinite(beta):
        raise ValueError(f"beta must be finite, got {beta}")
    if not use_kernel(h):
        return reference.soft_argmax(h, beta=beta, window=window, return_cov=return_cov, normalised=normalised)
    factor = 1.0
    if isinstance(beta, Tensor) or (beta is not None and beta < 0):
        h = h * widened(beta) if isinstance(beta, Tensor) else h * beta
    elif beta is not None:
        factor = float(beta)
    weights = _LINEAR if beta is None else _SOFTMAX
    _, mean, cov, *_ = torch.ops.medsynth_ext.heatmap_moments(
        h.flatten(0, 1), weights, factor, -math.inf, window or 0, False
    )
    shape, size = h.shape[:2], h.shape[2:]
    return reference.mean_and_cov(
        mean.unflatten(0, shape), cov.unflatten(0, shape), size, h.dtype, normalised=normalised, return_cov=return_cov
    )


def heatmap_moments(
    p: Tensor,  # (B, *S) densities
    spacing: float | Sequence[float] = 1.0,
    origin: float | Sequence[float] = 0.0,
    *,
    threshold: float = 0.0,
    eps: float = 1e-12,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # (B), (B, D), (B, D, D), (B, D), (B) bool
    """Mass, centroid, covariance and skewness of densities on a grid, in millimetres.

    Voxels below ``threshold`` and negative ones count as 0. Sums are in float64 about the largest voxel, so large
    offsets cost no digits. Differentiable in p, but for the skewness.

    Args:
        p: densities; float16 and bfloat16 are read as float32, and the results are float32.
        spacing: voxel size in millimetres, one number or one an axis.
        origin: position of the first voxel's centre in millimetres.
        threshold: least value that counts.
        eps: least mass of a valid map.

    Returns:
        The mass (sum of p times the voxel's volume); the centroid and the covariance, NaN for a map that is not valid;
        the third central moments along the covariance's eigenvectors, in the ascending order of the eigenvalues, every
        eigenvector turned so that its largest component is positive; whether the mass reaches ``eps``.

    >>> mass, centroid, cov, skew, valid = heatmap_moments(torch.tensor([[0.0, 1.0, 1.0]]), 2.0, 10.0)
    >>> mass.item(), centroid.item(), cov.item(), skew.item()
    (4.0, 13.0, 1.0, 0.0)
    """
    p = widened(p)
    check_float("p", p)
    if not 2 <= p.ndim <= 4 or 0 in p.shape[1:]:
        raise ValueError(f"p must be (B, *S) with one to three spatial axes, none empty, got {tuple(p.shape)}")
    axes = p.ndim - 1
    steps = _per_axis("spacing", spacing, axes, p.device)
    start = _per_axis("origin", origin, axes, p.device)
    if math.isnan(threshold) or not eps >= 0:
        raise ValueError(f"threshold must be a number and eps not negative, got {threshold} and {eps}")
    if not use_kernel(p):
        return reference.heatmap_moments(p, spacing, origin, threshold=threshold, eps=eps)
    moments = torch.ops.medsynth_ext.heatmap_moments(p, _LINEAR, 1.0, threshold, 0, True)[:4]
    return reference.in_millimetres(moments, steps, start, eps, p.dtype)


def _per_axis(name: str, value: float | Sequence[float], axes: int, device: torch.device) -> Tensor:
    numbers = [float(v) for v in value] if isinstance(value, Sequence) else [float(value)] * axes
    positive = name == "spacing"
    if len(numbers) != axes or not all(math.isfinite(v) and (v > 0 or not positive) for v in numbers):
        kind = "positive" if positive else "finite"
        raise ValueError(f"{name} must be a {kind} number or {axes} of them, got {value}")
    return torch.tensor(numbers, dtype=torch.float64, device=device)


if use_kernel(torch.empty(0)):

    @torch.library.register_fake("medsynth_ext::heatmap_moments")
    def _moments_fake(
        maps: Tensor, weights: int, beta: float, threshold: float, window: int, third: bool
    ) -> tuple[Tensor, ...]:
        count, d = maps.shape[0], maps.ndim - 1
        shapes = ((), (d,), (d, d), (d, d, d) if third else None, (3,))
        return tuple(maps.new_empty((0,) if s is None else (count, *s), dtype=torch.float64) for s in shapes)

    @torch.library.register_fake("medsynth_ext::heatmap_moments_backward")
    def _moments_backward_fake(maps: Tensor, *_: Any) -> Tensor:
        return torch.empty_like(maps, memory_format=torch.contiguous_format)

    def _moments_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        maps, ctx.weights, ctx.beta, ctx.threshold, ctx.window, _ = inputs
        mass, mean, cov, third, state = output
        ctx.mark_non_differentiable(third, state)
        ctx.save_for_backward(maps, mass, mean, cov, state)

    def _moments_grad(ctx: Any, to_mass: Tensor, to_mean: Tensor, to_cov: Tensor, *_: Any) -> tuple[Any, ...]:
        maps, mass, mean, cov, state = ctx.saved_tensors
        constant = -(to_cov * cov).sum((1, 2))
        if ctx.weights == _LINEAR:
            constant = constant + to_mass * mass
        grad = torch.ops.medsynth_ext.heatmap_moments_backward(
            maps, state, mean, constant, to_mean, to_cov, ctx.weights, ctx.beta, ctx.threshold, ctx.window
        )
        return grad, None, None, None, None, None

    def _no_second_derivative(ctx: Any, *grads: Any) -> None:
        raise NotImplementedError("soft_argmax and heatmap_moments have no second derivative")

    torch.library.register_autograd("medsynth_ext::heatmap_moments", _moments_grad, setup_context=_moments_setup)
    torch.library.register_autograd("medsynth_ext::heatmap_moments_backward", _no_second_derivative)
