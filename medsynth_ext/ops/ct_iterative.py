"""Counting noise, and reconstruction by iterating projection and adjoint: for any geometry that has rays."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from medsynth_ext.ops._checks import check_float, check_seed, in_graph, refuse_grad
from medsynth_ext.ops._precision import float32_inside
from medsynth_ext.ops.ct_geometry import CTGeometry
from medsynth_ext.ops.projector import check_projections, check_volume, ct_adjoint, ct_forward
from medsynth_ext.ops.random import rand_normal, rand_uniform

__all__ = ["cgls", "poisson_counts", "poisson_noise", "sirt"]

_STREAM = 5  # of the random numbers: counting noise
_MANY = 1000.0  # mean counts from which on the normal law stands for Poisson's


def poisson_counts(
    mean: Tensor,  # (B, C, *S)
    *,
    seed: int,
    sample_offset: int = 0,
) -> Tensor:  # (B, C, *S)
    """Poisson numbers with given means: a function of (seed, sample, channel, element) alone; no gradient.

    Up to a mean of 1000 by inversion of the distribution function, above by rounding a normal number.

    Args:
        mean: mean counts, not negative, float32 or float64.
        seed: any 64-bit integer.
        sample_offset: number of the first sample, so that parts of a batch draw what the whole would.

    Raises:
        TypeError: when ``mean`` is not float32 or float64.
        ValueError: for fewer than three axes, negative or not finite means, or a seed out of range.
        NotImplementedError: when ``mean`` requires a gradient.

    >>> poisson_counts(torch.full((1, 1, 4), 2.5), seed=1).shape
    torch.Size([1, 1, 4])
    """
    if isinstance(mean, Tensor) and mean.dtype in (torch.float16, torch.bfloat16):
        raise TypeError(f"mean must be float32 or float64, since half precision does not hold counts, got {mean.dtype}")
    check_float("mean", mean)
    check_seed(seed, sample_offset, _STREAM)
    refuse_grad("poisson_counts", "counts are integers; add noise under torch.no_grad()", mean=mean)
    if mean.ndim < 3:
        raise ValueError(f"mean must be (B, C, *S), got {tuple(mean.shape)}")
    rate = mean.detach().double()
    if not in_graph() and not bool(((rate >= 0) & rate.isfinite()).all()):
        raise ValueError("mean must be finite and not negative")
    place: dict[str, Any] = {"sample_offset": sample_offset, "stream": _STREAM, "device": mean.device}
    shape = (mean.shape[0], mean.shape[1], mean[0, 0].numel() if mean.numel() else 0)
    if not mean.numel():
        return torch.zeros_like(mean)
    normal = rand_normal(shape, seed, **place).reshape(mean.shape).double()
    counts = (rate + rate.sqrt() * normal).round().clamp_min(0)
    few = rate <= _MANY
    if in_graph():  # a graph cannot gather the few, nor ask whether there are any
        uniform = rand_uniform(shape, seed, dtype=torch.float64, **place).reshape(mean.shape)
        counts = torch.where(few, _invert(rate.clamp_max(_MANY), uniform, _MANY), counts)
    elif bool(few.any()):
        uniform = rand_uniform(shape, seed, dtype=torch.float64, **place).reshape(mean.shape)
        counts[few] = _invert(rate[few], uniform[few], float(rate[few].max()))
    return counts.to(mean.dtype)


def _invert(rate: Tensor, uniform: Tensor, largest_rate: float) -> Tensor:
    """The least k with P(N <= k) > u, by halving."""
    low = torch.full_like(rate, -1.0)  # P(N <= low) <= u
    high = (rate + 10 * rate.sqrt() + 30).ceil()  # beyond all but 1e-16 of the law
    width = math.ceil(largest_rate + 10 * math.sqrt(largest_rate) + 30) + 1
    for _ in range(width.bit_length()):
        middle = ((low + high) / 2).floor()
        above = torch.special.gammaincc(middle + 1, rate) > uniform
        high, low = torch.where(above, middle, high), torch.where(above, low, middle)
    return high


@float32_inside("proj")
def poisson_noise(
    proj: Tensor,  # (B, C, *S), line integrals
    photons: float | Tensor,
    *,
    seed: int,
    sample_offset: int = 0,
    least_counts: float = 1.0,
) -> Tensor:  # (B, C, *S)
    """Line integrals as measured by counting: ``-log(N / photons)`` with N Poisson of mean ``photons * exp(-proj)``.

    Args:
        proj: line integrals without unit, float32 or float64.
        photons: mean count of an unattenuated ray; a number, or a tensor that broadcasts with ``proj``.
        seed: any 64-bit integer; see :func:`poisson_counts`.
        sample_offset: number of the first sample.
        least_counts: counts below it are raised to it, since no counts have no logarithm.

    Raises:
        TypeError: when ``proj`` is not float32 or float64.
        ValueError: for fewer than three axes, ``photons`` or ``least_counts`` that are not positive, or not finite
            line integrals.
        NotImplementedError: when ``proj`` requires a gradient.
    """
    check_float("proj", proj)
    refuse_grad("poisson_noise", "counts are integers; add noise under torch.no_grad()", proj=proj)
    if not 0 < least_counts < math.inf:
        raise ValueError(f"least_counts must be positive and finite, got {least_counts}")
    full = torch.as_tensor(photons, dtype=torch.float64, device=proj.device)
    if not in_graph() and not bool(((full > 0) & full.isfinite()).all()):
        raise ValueError(f"photons must be positive and finite, got {photons}")
    counts = poisson_counts(full * torch.exp(-proj.double()), seed=seed, sample_offset=sample_offset)
    return -torch.log(counts.clamp_min(least_counts) / full).to(proj.dtype)


def _norms(value: Tensor, dims: int) -> Tensor:
    """Sums of squares per item, with axes kept for broadcasting, in float64."""
    return value.double().square().sum(tuple(range(value.ndim - dims, value.ndim)), keepdim=True)


def _begin(
    name: str, proj: Tensor, geometry: CTGeometry, start: Tensor | None, iterations: int, progress: bool
) -> tuple[Tensor, tqdm | range]:
    """The first volume and the steps, with a bar except in a graph, after the checks that all iterations share."""
    check_projections(proj, geometry)
    lead = proj.shape[: proj.ndim - geometry.dims]
    if iterations < 0:
        raise ValueError(f"iterations must not be negative, got {iterations}")
    if start is None:
        x = proj.new_zeros(*lead, *geometry.vol_shape)
    else:
        check_volume(start, geometry)
        if start.shape[: start.ndim - geometry.dims] != lead:
            raise ValueError(
                f"start must have the leading axes of proj, got {tuple(start.shape)} and {tuple(proj.shape)}"
            )
        x = start.clone()
    steps = range(iterations)
    return x, steps if in_graph() else tqdm(steps, desc=name, disable=not progress, leave=False)


def _show(bar: tqdm | range, residual: Tensor, proj: Tensor) -> None:
    """The relative residual, where there is a bar."""
    if isinstance(bar, tqdm) and not bar.disable:
        share = float(residual.detach().norm() / proj.detach().norm().clamp_min(1e-30))
        bar.set_postfix(residual=f"{share:.2e}")


@float32_inside("proj", "start")
def sirt(
    proj: Tensor,  # (..., views, *det_shape)
    geometry: CTGeometry,
    *,
    iterations: int = 50,
    start: Tensor | None = None,
    relaxation: float = 1.0,
    lower: float | None = None,
    upper: float | None = None,
    model: str = "joseph",
    progress: bool = True,
) -> Tensor:  # (..., *vol_shape)
    """Simultaneous iterative reconstruction: ``x += relaxation * C A^T R (p - A x)``.

    R and C are one over the sums of A's rows and columns; rays and voxels that meet nothing stay out. Converges for a
    relaxation between 0 and 2. Every item of the batch is treated for itself. Differentiable, at the memory of all
    iterations; wrap it in ``torch.no_grad()`` otherwise.

    Args:
        proj: line integrals, float32 or float64.
        geometry: any scan.
        iterations: number of steps.
        start: first volume, zero by default.
        relaxation: length of a step.
        lower: voxels are kept from falling below it, if given.
        upper: voxels are kept from rising above it, if given.
        model: see :func:`medsynth_ext.ops.ct_forward`.
        progress: show a progress bar with the relative residual.

    Raises:
        TypeError: for another dtype, or something that is not a geometry.
        ValueError: for shapes that are not the geometry's, or options out of range.
    """
    if not 0 < relaxation < 2:
        raise ValueError(f"relaxation must be between 0 and 2, got {relaxation}")
    if lower is not None and upper is not None and lower > upper:
        raise ValueError(f"lower must not be above upper, got {lower} and {upper}")
    x, bar = _begin("SIRT", proj, geometry, start, iterations, progress)
    rows = ct_forward(proj.new_ones(geometry.vol_shape), geometry, model=model)
    cols = ct_adjoint(proj.new_ones(geometry.proj_shape), geometry, model=model)
    per_row, per_col = (torch.where(s > 0, 1 / s.clamp_min(1e-30), 0.0) for s in (rows, cols))
    for _ in bar:
        residual = proj - ct_forward(x, geometry, model=model)
        _show(bar, residual, proj)
        x = x + relaxation * per_col * ct_adjoint(per_row * residual, geometry, model=model)
        if lower is not None or upper is not None:
            x = x.clamp(lower, upper)
    return x


@float32_inside("proj", "start")
def cgls(
    proj: Tensor,  # (..., views, *det_shape)
    geometry: CTGeometry,
    *,
    iterations: int = 20,
    start: Tensor | None = None,
    damping: float = 0.0,
    model: str = "joseph",
    progress: bool = True,
) -> Tensor:  # (..., *vol_shape)
    """Conjugate gradients for ``min |A x - p|^2 + damping^2 |x|^2`` (Hestenes and Stiefel 1952).

    Every item of the batch has step lengths of its own, so the result does not depend on its company. Few iterations
    regularise; with noise more of them make the result worse.

    Args:
        proj: line integrals, float32 or float64.
        geometry: any scan.
        iterations: number of steps.
        start: first volume, zero by default.
        damping: weight of the volume's own size.
        model: see :func:`medsynth_ext.ops.ct_forward`.
        progress: show a progress bar with the relative residual.

    Raises:
        TypeError: for another dtype, or something that is not a geometry.
        ValueError: for shapes that are not the geometry's, or options out of range.
    """
    if not 0 <= damping < math.inf:
        raise ValueError(f"damping must be finite and not negative, got {damping}")
    x, bar = _begin("CGLS", proj, geometry, start, iterations, progress)
    dims = geometry.dims
    residual = proj - ct_forward(x, geometry, model=model)
    s = ct_adjoint(residual, geometry, model=model) - damping**2 * x
    direction, size = s, _norms(s, dims)
    for _ in bar:
        q = ct_forward(direction, geometry, model=model)
        bend = _norms(q, dims) + damping**2 * _norms(direction, dims)
        alpha = torch.where(bend > 0, size / bend.clamp_min(1e-300), 0.0).to(x.dtype)
        x = x + alpha * direction
        residual = residual - alpha * q
        _show(bar, residual, proj)
        s = ct_adjoint(residual, geometry, model=model) - damping**2 * x
        before, size = size, _norms(s, dims)
        beta = torch.where(before > 0, size / before.clamp_min(1e-300), 0.0).to(x.dtype)
        direction = s + beta * direction
    return x
