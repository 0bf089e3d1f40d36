"""Implicit shapes in millimetres: depth functions that are positive inside, wave fields and smooth flows.

A depth is close to the distance to the surface near it, and only its sign is exact far away. All functions take the
coordinates as three tensors of one shape, so that anatomy can be evaluated at any set of points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

__all__ = ["Waves", "ellipsoid_depth", "flow_displacement", "interpolation_matrix", "smooth_max", "tube_depth"]


def ellipsoid_depth(
    x: Tensor,
    y: Tensor,
    z: Tensor,
    *,
    centre: Sequence[float],
    radii: Sequence[float],
    yaw_deg: float = 0.0,
    pitch_deg: float = 0.0,
) -> Tensor:
    """Depth below the surface of an ellipsoid, turned first about z (``yaw_deg``), then about x (``pitch_deg``).

    >>> one = torch.ones(1)
    >>> ellipsoid_depth(3 * one, 0 * one, 0 * one, centre=(0, 0, 0), radii=(5, 5, 5)).item()
    2.0
    """
    u, v, w = x - centre[0], y - centre[1], z - centre[2]
    if pitch_deg:
        c, s = math.cos(math.radians(pitch_deg)), math.sin(math.radians(pitch_deg))
        v, w = c * v + s * w, c * w - s * v
    if yaw_deg:
        c, s = math.cos(math.radians(yaw_deg)), math.sin(math.radians(yaw_deg))
        u, v = c * u + s * v, c * v - s * u
    u, v, w = u / radii[0], v / radii[1], w / radii[2]
    norm = (u * u + v * v + w * w).sqrt_()
    slope = ((u / radii[0]) ** 2 + (v / radii[1]) ** 2 + (w / radii[2]) ** 2).sqrt_().clamp_(min=1e-6)
    return norm * (1 - norm) / slope


def tube_depth(x: Tensor, y: Tensor, z: Tensor, *, nodes: Sequence[Sequence[float]]) -> Tensor:
    """Depth inside a chain of round cones; ``nodes`` holds at least two rows ``(x, y, z, radius)``.

    >>> one = torch.ones(1)
    >>> tube_depth(one, 0 * one, 5 * one, nodes=[(0, 0, 0, 3), (0, 0, 10, 3)]).item()
    2.0
    """
    depth: Tensor | None = None
    for (ax, ay, az, ar), (bx, by, bz, br) in pairwise(nodes):
        dx, dy, dz = bx - ax, by - ay, bz - az
        u, v, w = x - ax, y - ay, z - az
        t = (u * dx + v * dy + w * dz).mul_(1 / (dx * dx + dy * dy + dz * dz)).clamp_(0, 1)
        distance = ((u - t * dx) ** 2 + (v - t * dy) ** 2 + (w - t * dz) ** 2).sqrt_()
        segment = ar + (br - ar) * t - distance
        depth = segment if depth is None else torch.maximum(depth, segment)
    if depth is None:
        raise ValueError(f"nodes must hold at least two rows (x, y, z, radius), got {len(nodes)}")
    return depth


def smooth_max(a: Tensor, b: Tensor, width: float) -> Tensor:
    """Union of two depths with the crease filled over about ``width`` millimetres."""
    h = (0.5 + 0.5 * (a - b) / width).clamp_(0, 1)
    return b + (a - b) * h + width * h * (1 - h)


@dataclass(frozen=True)
class Waves:
    """A sum of plane waves ``sum_k a_k sin(f_k . q + phase_k)`` with a root mean square of one."""

    frequencies: np.ndarray  # (K, 3) radians per millimetre
    phases: np.ndarray  # (K,)
    amplitudes: np.ndarray  # (K,)

    @classmethod
    def draw(cls, rng: np.random.Generator, count: int, wavelength_mm: tuple[float, float]) -> Waves:
        """Draw ``count`` waves in random directions with wavelengths uniform in ``wavelength_mm``."""
        direction = rng.standard_normal((count, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        wavelength = rng.uniform(*wavelength_mm, (count, 1))
        amplitude = rng.uniform(0.6, 1.4, count)
        amplitude *= math.sqrt(2) / np.linalg.norm(amplitude)
        return cls(2 * np.pi * direction / wavelength, rng.uniform(0, 2 * np.pi, count), amplitude)

    def value(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """The sum at the given points."""
        total = torch.zeros_like(x)
        for (fx, fy, fz), phase, amplitude in zip(self.frequencies, self.phases, self.amplitudes, strict=True):
            angle = (x * float(fx)).add_(y, alpha=float(fy)).add_(z, alpha=float(fz)).add_(float(phase))
            total.add_(angle.sin_(), alpha=float(amplitude))
        return total

    def sheet_distance(self, n: tuple[Tensor, Tensor, Tensor], radius: Tensor, *, reference_mm: float) -> Tensor:
        """Distance in millimetres to the nearest sheet where the waves vanish.

        The waves live on a sphere of ``reference_mm``: they are evaluated at ``reference_mm * n`` for unit vectors
        ``n`` and stretched by ``radius / reference_mm``, so the sheets run towards the centre as sulci do.
        """
        value = torch.zeros_like(radius)
        grad = [torch.zeros_like(radius) for _ in range(3)]
        q = [axis * reference_mm for axis in n]
        for frequency, phase, amplitude in zip(self.frequencies, self.phases, self.amplitudes, strict=True):
            angle = (q[0] * float(frequency[0])).add_(q[1], alpha=float(frequency[1]))
            angle.add_(q[2], alpha=float(frequency[2])).add_(float(phase))
            value.add_(angle.sin(), alpha=float(amplitude))
            slope = angle.cos_()
            for axis in range(3):
                grad[axis].add_(slope, alpha=float(amplitude * frequency[axis]))
        radial = n[0] * grad[0] + n[1] * grad[1] + n[2] * grad[2]
        tangential2 = (grad[0] ** 2 + grad[1] ** 2 + grad[2] ** 2 - radial**2).clamp_(min=0)
        # Where the field is flat the ratio has no meaning: a floor keeps it finite and makes a broad gyrus.
        floor = 0.3 * float(np.linalg.norm(self.frequencies * self.amplitudes[:, None]))
        return value.abs_() / (tangential2 + floor**2).sqrt_() * (radius / reference_mm)


def flow_displacement(
    rng: np.random.Generator,
    points: Tensor,  # (P, 3) millimetres
    *,
    strength_mm: float,
    wavelength_mm: tuple[float, float] = (70.0, 180.0),
    waves: int = 16,
    steps: int = 2,
) -> Tensor:  # (P, 3) millimetres
    """Displacement at time one of the flow of a smooth random stationary velocity.

    The velocity is a sum of ``waves`` vector-valued plane waves with a root mean square of ``strength_mm`` along each
    axis, given in closed form, and the flow is followed by ``steps`` classical Runge-Kutta steps. A flow is a
    diffeomorphism, so anatomy is bent but never torn.
    """
    direction = rng.standard_normal((waves, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    frequency = torch.from_numpy(2 * np.pi * direction / rng.uniform(*wavelength_mm, (waves, 1))).float()
    phase = torch.from_numpy(rng.uniform(0, 2 * np.pi, waves)).float()
    amplitude = torch.from_numpy(rng.standard_normal((waves, 3)) * math.sqrt(2 / waves) * strength_mm).float()

    def velocity(position: Tensor) -> Tensor:
        return torch.sin(position @ frequency.T + phase) @ amplitude

    position, h = points.clone(), 1.0 / steps
    for _ in range(steps):
        k1 = velocity(position)
        k2 = velocity(position + 0.5 * h * k1)
        k3 = velocity(position + 0.5 * h * k2)
        k4 = velocity(position + h * k3)
        position = position + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return position - points


def interpolation_matrix(nodes: Tensor, targets: Tensor) -> Tensor:
    """Matrix (targets, nodes) of linear interpolation along one axis; targets outside take the end value."""
    step = float(nodes[1] - nodes[0])
    position = ((targets - nodes[0]) / step).clamp(0, len(nodes) - 1)
    left = position.floor().clamp(max=max(len(nodes) - 2, 0))
    matrix = torch.zeros(len(targets), len(nodes))
    matrix.scatter_(1, left.long()[:, None], (1 - (position - left))[:, None])
    matrix.scatter_(1, left.long()[:, None] + 1, (position - left)[:, None])
    return matrix
