"""Plain PyTorch twins of the rotating projector and of re-reconstruction with another kernel."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medsynth_ext.ops._precision import float32_inside

__all__ = ["kernel_augment", "rotate_project"]


def _bilinear(image: Tensor, x: Tensor, y: Tensor) -> Tensor:  # image (N, S, S), x and y (...) -> (N, ...)
    """Values at columns x and rows y, with zeros outside."""
    size = image.shape[-1]
    left, top = x.floor(), y.floor()
    total = image.new_zeros(image.shape[0], *x.shape)
    for di, dj in ((0, 0), (0, 1), (1, 0), (1, 1)):
        i, j = (top + di).long(), (left + dj).long()
        weight = (1 - (y - i).abs()) * (1 - (x - j).abs())
        inside = (i >= 0) & (i < size) & (j >= 0) & (j < size)
        value = image.flatten(1)[:, (i * size + j).clamp(0, size * size - 1)]
        total = total + torch.where(inside, weight, 0.0).to(image.dtype) * value
    return total


@float32_inside("image")
def rotate_project(image: Tensor, views: int) -> Tensor:  # (..., S, S) -> (..., views, S)
    """A turned image per view, summed over its rows; see :func:`medsynth_ext.ops.rotate_project`."""
    size = image.shape[-1]
    c = size // 2
    at = torch.arange(size, dtype=torch.float64, device=image.device) - c
    r, t = at[:, None], at[None, :]
    flat = image.reshape(-1, size, size)
    lines = []
    for k in range(views):
        cosine, sine = math.cos(math.pi * k / views), math.sin(math.pi * k / views)
        lines.append(_bilinear(flat, t * cosine + r * sine + c, r * cosine - t * sine + c).sum(1))
    return torch.stack(lines, 1).reshape(*image.shape[:-2], views, size)


def kernel_augment(image: Tensor, a: Tensor, b: Tensor, *, views: int, offset_hu: float) -> Tensor:
    """The whole chain as its formulas stand, for square images and without the final clipping.

    See :func:`medsynth_ext.ops.kernel_augment`.
    """
    n = image.shape[-1]
    c, bins = n // 2, math.ceil(math.sqrt(2) * n)
    length = max(64, 2 ** math.ceil(math.log2(2 * bins)))
    sino = image.new_zeros(len(image), views, length)
    first = bins // 2 - c
    sino[..., first : first + n] = rotate_project(image.clamp_min(-1000) + offset_hu, views)
    distance = torch.arange(length, dtype=image.dtype)
    distance = torch.minimum(distance, length - distance)
    kernel = torch.where(distance % 2 == 1, -1 / (math.pi * distance.clamp_min(1)) ** 2, 0.0)
    kernel[0] = 0.25
    ramp = 2 * torch.fft.fft(kernel).real.to(image.device)
    gain = ramp * (1 + a[:, None] * ramp ** b[:, None])
    filtered = torch.fft.ifft(torch.fft.fft(sino) * gain[:, None]).real[..., :bins]
    at = torch.arange(n, dtype=image.dtype, device=image.device) - c
    y, x = at[:, None], at[None, :]
    total = torch.zeros_like(image)
    for k in range(views):
        place = x * math.cos(math.pi * k / views) - y * math.sin(math.pi * k / views) + bins // 2
        low = place.floor().long()
        for index in (low, low + 1):
            weight = torch.where((index >= 0) & (index < bins), 1 - (place - index).abs(), 0.0)
            total = total + weight * filtered[:, k][:, index.clamp(0, bins - 1)]
    return torch.where(x**2 + y**2 <= c * c, total * math.pi / (2 * views), 0.0) - offset_hu
