"""Plain PyTorch twins of filtered back-projection, from the textbook formulas of circular scans."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from medsynth_ext.ops._precision import float32_inside

if TYPE_CHECKING:
    from medsynth_ext.ops.ct_geometry import CTGeometry

__all__ = ["ct_filter", "fbp", "fdk"]


@float32_inside("proj")
def ct_filter(proj: Tensor, tau: float, *, window: str = "ram-lak", cutoff: float = 1.0) -> Tensor:
    """A dense Toeplitz matrix with the windowed kernel; see :func:`medsynth_ext.ops.ct_filter`."""
    cols = proj.shape[-1]
    length = 1
    while length < 2 * cols:
        length *= 2
    n = torch.arange(length, dtype=torch.float64)
    n = torch.where(n < length / 2, n, n - length)
    h = torch.where(n.remainder(2) == 1, -1 / (math.pi**2 * n**2 * tau**2), 0.0)
    h[n == 0] = 1 / (4 * tau**2)
    f = (n / (length / 2)).abs()  # of the highest frequency
    gain = {
        "ram-lak": lambda: torch.ones_like(f),
        "shepp-logan": lambda: torch.where(f == 0, 1.0, torch.sin(math.pi * f / 2) / (math.pi * f / 2)),
        "cosine": lambda: torch.cos(math.pi * f / 2),
        "hamming": lambda: 0.54 + 0.46 * torch.cos(math.pi * f),
        "hann": lambda: 0.5 + 0.5 * torch.cos(math.pi * f),
    }[window]()
    h = torch.fft.ifft(torch.fft.fft(h) * gain * (f <= cutoff)).real
    row = torch.arange(cols)
    matrix = tau * h[(row[:, None] - row[None, :]) % length]
    return (proj.double() @ matrix.to(proj.device)).to(proj.dtype)


def _parker(beta: float, gamma: Tensor, half: float) -> Tensor:
    """Parker's weight of the rays at fan angles gamma in the view at beta of an arc of pi + 2 half."""
    w = torch.ones_like(gamma)
    for i, g in enumerate(gamma.tolist()):
        if beta < 2 * (half - g):
            w[i] = math.sin(math.pi / 4 * beta / (half - g)) ** 2
        elif beta > math.pi - 2 * g:
            w[i] = math.sin(math.pi / 4 * (math.pi + 2 * half - beta) / (half + g)) ** 2
    return w


@float32_inside("proj")
def fdk(
    proj: Tensor, geometry: CTGeometry, *, window: str = "ram-lak", cutoff: float = 1.0, short: bool = False
) -> Tensor:
    """Equidistant angles over a turn (parallel: also half a turn), or with ``short`` Parker's weights for the arc.

    See :func:`medsynth_ext.ops.fdk`.
    """
    orbit = geometry.orbit
    assert orbit is not None
    t = orbit.angles
    step = abs(float(t[1] - t[0]))
    size, det, spacing, center = geometry.padded()
    lead = proj.shape[: proj.ndim - geometry.dims]
    flat = proj.reshape(-1, geometry.views, *det).double()
    u = (torch.arange(det[1]).double() - (det[1] - 1) / 2) * orbit.pixel_mm[0] + orbit.offset_mm[0]
    v = (torch.arange(det[0]).double() - (det[0] - 1) / 2) * orbit.pixel_mm[1] + orbit.offset_mm[1]
    z, y, x = torch.meshgrid(
        *[
            c + (torch.arange(n).double() - (n - 1) / 2) * s
            for n, s, c in zip(size, spacing[::-1], center[::-1], strict=True)
        ],
        indexing="ij",
    )
    arc = step * geometry.views
    result = torch.zeros(flat.shape[0], *size, dtype=torch.float64)
    for i in range(geometry.views):
        sin, cos = float(t[i].sin()), float(t[i].cos())
        view = flat[:, i]
        if orbit.source_detector_mm is None or orbit.source_origin_mm is None:
            tau, weight = orbit.pixel_mm[0], torch.ones_like(x)
            at_u, at_v = x * cos + y * sin, z
            factor = step * math.pi / arc
        else:
            r, d = orbit.source_origin_mm, orbit.source_detector_mm
            distance = r - x * sin + y * cos
            tau, weight = orbit.pixel_mm[0] * r / d, (r / distance) ** 2
            at_u, at_v = d * (x * cos + y * sin) / distance, d * z / distance
            height = v if geometry.dims == 3 else torch.zeros(1, dtype=torch.float64)
            view = view * d / torch.sqrt(d * d + u * u + height[:, None] ** 2)
            factor = step / 2
            if short:
                sense = 1.0 if t[1] > t[0] else -1.0
                gamma = -sense * torch.atan(u / d)
                view = view * _parker(abs(float(t[i] - t[0])), gamma, (arc - math.pi) / 2)
                factor = step
        q = ct_filter(view, tau, window=window, cutoff=cutoff)
        col = (at_u - orbit.offset_mm[0]) / orbit.pixel_mm[0] + (det[1] - 1) / 2
        row = (at_v - orbit.offset_mm[1]) / orbit.pixel_mm[1] + (det[0] - 1) / 2
        row = row if geometry.dims == 3 else torch.zeros_like(col)
        for j in (row.floor(), row.floor() + 1):
            for k in (col.floor(), col.floor() + 1):
                share = (1 - (row - j).abs()) * (1 - (col - k).abs())
                inside = (j >= 0) & (j < det[0]) & (k >= 0) & (k < det[1])
                pixel = q[:, torch.where(inside, j, 0).long(), torch.where(inside, k, 0).long()]
                result += factor * weight * share * inside * pixel
    return result.reshape(*lead, *geometry.vol_shape).to(proj.dtype)


fbp = fdk
