"""Plain PyTorch twins of the GMM family."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medsynth_ext.ops._precision import float32_inside
from medsynth_ext.ops.reference.random import rand_normal

__all__ = ["gmm_sample", "synth_image"]


def _per_sample(parameter: Tensor, batch: int) -> Tensor:
    """(B, K, C) from (B, K, C), (K, C) or (K,)."""
    if parameter.ndim == 1:
        parameter = parameter[:, None]
    return parameter.expand(batch, *parameter.shape[-2:])


def _classes(labels: Tensor, n_classes: int, lut: Tensor | None, validate: bool) -> tuple[Tensor, Tensor]:
    """Class of every voxel (0 where there is none) and whether there is one."""
    value = labels.to(torch.int64)
    table = torch.arange(n_classes, device=labels.device) if lut is None else lut.to(torch.int64)
    known = (value >= 0) & (value < table.numel())
    index = table[value.clamp(0, max(table.numel() - 1, 0))] if table.numel() else torch.full_like(value, -1)
    known = known & (index >= 0) & (index < n_classes)
    if validate and not bool(known.all()):
        first = (~known).nonzero()[0].tolist()
        place = f"in sample {first[0]} at position {tuple(first[1:])}"
        raise ValueError(f"labels holds {value[tuple(first)].item()} {place}, which has no class")
    return torch.where(known, index, 0), known


@float32_inside("means", "stds")
def gmm_sample(
    labels: Tensor,
    means: Tensor,
    stds: Tensor,
    *,
    lut: Tensor | None = None,
    seed: int,
    sample_offset: int = 0,
    stream: int = 0,
    index_shape: Sequence[int] | None = None,
    index_origin: Sequence[int] | None = None,
    validate: bool = True,
    out: Tensor | None = None,
) -> Tensor:
    """``means[class] + stds[class] * n``; see :func:`medsynth_ext.ops.gmm_sample`."""
    if labels.ndim > 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    batch, *size = labels.shape
    mean, std = _per_sample(means, batch), _per_sample(stds, batch)
    index, known = _classes(labels, mean.shape[1], lut, validate)
    sample = torch.arange(batch, device=labels.device).reshape(-1, *[1] * len(size))
    noise = rand_normal(
        (batch, mean.shape[2], *size),
        seed,
        sample_offset=sample_offset,
        stream=stream,
        index_shape=index_shape,
        index_origin=index_origin,
        dtype=means.dtype,
        device=labels.device,
    )
    m, s = mean[sample, index].movedim(-1, 1), std[sample, index].movedim(-1, 1)  # (B, C, *S)
    value = (m.double() + s.double() * noise.double()).to(means.dtype)
    value = value.masked_fill(~known[:, None], float("nan"))
    return value if out is None else out.copy_(value)


def _corner_resize(grid: Tensor, size: Sequence[int], whole: Sequence[int], origin: Sequence[int]) -> Tensor:
    """Linear resize of (B, C, *m): output index i reads at ``(i + origin) * m / whole``, clamped at the end."""
    for d, (n, n_whole, first) in enumerate(zip(size, whole, origin, strict=True)):
        axis, m = d + 2, grid.shape[d + 2]
        q = (torch.arange(first, first + n, device=grid.device).double() * m / n_whole).clamp(0, m - 1)
        low = q.floor().long().clamp(max=max(m - 2, 0))
        weight = (q - low).to(grid.dtype).reshape([-1 if a == axis else 1 for a in range(grid.ndim)])
        a, b = grid.index_select(axis, low), grid.index_select(axis, (low + 1).clamp(max=m - 1))
        grid = a + weight * (b - a)
    return grid


@float32_inside("means", "stds", "bias_grid", "gamma")
def synth_image(
    labels: Tensor,
    means: Tensor,
    stds: Tensor,
    *,
    lut: Tensor | None = None,
    bias_grid: Tensor | None = None,
    clip: tuple[float, float] | None = (0.0, 300.0),
    normalise: bool = True,
    gamma: Tensor | None = None,
    seed: int,
    sample_offset: int = 0,
    stream: int = 0,
    index_shape: Sequence[int] | None = None,
    index_origin: Sequence[int] | None = None,
    eps: float = 1e-7,
    validate: bool = True,
    out: Tensor | None = None,
) -> Tensor:
    """GMM, bias, clip, min-max and power, one after the other in float64; see :func:`medsynth_ext.ops.synth_image`."""
    dtype = means.dtype
    value = gmm_sample(
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
    ).double()
    size = value.shape[2:]
    if bias_grid is not None:
        whole = size if index_shape is None else index_shape
        origin = [0] * len(size) if index_origin is None else index_origin
        value = value * torch.exp(_corner_resize(bias_grid.double(), size, whole, origin))
    if clip is not None:
        value = value.clamp(*clip)
    if normalise and value.numel():
        flat = value.flatten(2)
        unknown = flat.isnan()
        low = flat.masked_fill(unknown, torch.inf).amin(2).reshape(*value.shape[:2], *[1] * len(size))
        high = flat.masked_fill(unknown, -torch.inf).amax(2).reshape(low.shape)
        value = (value - low) / (high - low + eps)
    if gamma is not None:
        value = value ** torch.exp(gamma.double().reshape(*value.shape[:2], *[1] * len(size)))
    value = value.to(dtype)
    return value if out is None else out.copy_(value)
