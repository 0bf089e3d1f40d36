"""Plain PyTorch twins of the resampling family: one dense matrix per axis, applied one axis after the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medsynth_ext.ops._precision import float32_inside
from medsynth_ext.ops.reference._sampling import sample_axis

__all__ = ["axis_locations", "axis_matrix", "resample", "resize_field", "simulate_resolution"]


def axis_locations(n_in: int, n_out: int, rule: str, index: Tensor) -> Tensor:
    """Where output voxels ``index`` of an axis of ``n_out`` voxels lie on the input axis of ``n_in``."""
    if rule == "corner":
        return index * n_in / n_out
    if rule == "half_pixel":
        return (index + 0.5) * n_in / n_out - 0.5
    return index * (n_in - 1) / (n_out - 1) if n_out > 1 else torch.zeros_like(index)


def axis_matrix(n_in: int, n_out: int, rule: str, mode: str, border: str, like: Tensor) -> Tensor:
    """The (n_out, n_in) matrix that resizes one axis."""
    q = axis_locations(n_in, n_out, rule, torch.arange(n_out, dtype=torch.float64))
    matrix = torch.zeros(n_out, n_in, dtype=torch.float64)
    rows = torch.arange(n_out)
    if mode == "nearest":
        r = q.round()
        outside = ((r < 0) | (r > n_in - 1)) & (border == "zeros")
        axis = sample_axis(r, n_in, "reflect" if border == "reflect" else "clamp")
        column = torch.where(axis.weight_high > 0.5, axis.high, axis.low)
        matrix[rows, column] = torch.where(outside, 0.0, 1.0).to(torch.float64)
    else:
        axis = sample_axis(q, n_in, border)
        matrix.index_put_((rows, axis.low), axis.weight_low, accumulate=True)
        matrix.index_put_((rows, axis.high), axis.weight_high, accumulate=True)
    return matrix.to(dtype=like.dtype, device=like.device)


def _apply(x: Tensor, matrices: Sequence[Tensor | None]) -> Tensor:
    """Apply one matrix per spatial axis; None leaves the axis alone."""
    for d, matrix in enumerate(matrices):
        if matrix is not None:
            x = torch.tensordot(x, matrix, dims=([2 + d], [1])).movedim(-1, 2 + d)
    return x


@float32_inside("x")
def resample(
    x: Tensor, size: Sequence[int], *, rule: str = "corner", mode: str = "linear", border: str = "clamp"
) -> Tensor:
    """Resize (B, C, *S) to (B, C, *size); see :func:`medsynth_ext.ops.resample`."""
    sizes = zip(x.shape[2:], size, strict=True)
    return _apply(x, [axis_matrix(n, m, rule, mode, border, x) for n, m in sizes]).contiguous()


@float32_inside("v")
def resize_field(
    v: Tensor, size: Sequence[int], *, rule: str = "half_pixel", rescale: bool = True, border: str = "clamp"
) -> Tensor:
    """Resize a field (B, D, *S) to (B, D, *size); see :func:`medsynth_ext.ops.resize_field`."""
    out = resample(v, size, rule=rule, border=border)
    if not rescale:
        return out
    factor = v.new_tensor([m / n for n, m in zip(v.shape[2:], size, strict=True)])
    return out * factor.reshape(-1, *[1] * len(size))


@float32_inside("x")
def simulate_resolution(x: Tensor, low_size: Tensor, *, mode: str = "linear") -> Tensor:
    """Down to a grid per sample and back, both by the corner rule; see :func:`medsynth_ext.ops.simulate_resolution`."""
    samples = []
    for image, low in zip(x, low_size.tolist(), strict=True):
        chain: list[Tensor | None] = []
        for n, m in zip(x.shape[2:], low, strict=True):
            down = axis_matrix(n, m, "corner", mode, "clamp", x)
            up = axis_matrix(m, n, "corner", "linear", "clamp", x)
            chain.append(None if m == n else up @ down)
        samples.append(_apply(image[None], chain)[0])
    return torch.stack(samples) if samples else x.clone()
