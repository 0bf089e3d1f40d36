"""An average anatomy in one subject: turned, scaled, shifted and bent, with its landmarks carried along."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medsynth_ext import ops
from medsynth_ext.phantoms.painter import Grid

__all__ = ["PoseRanges", "PosedAnatomy", "annotate", "random_rotation"]

_WAVES = 12


@dataclass(frozen=True)
class PoseRanges:
    """How much subjects differ.

    Args:
        rotation_deg: largest angle about every axis.
        scale: linear size, smallest and largest.
        translation_mm: largest shift along every axis.
        deformation_mm: root mean square of the bending along every axis.
        wavelength_mm: of the bending's waves.
    """

    rotation_deg: float = 20.0
    scale: tuple[float, float] = (0.9, 1.1)
    translation_mm: float = 10.0
    deformation_mm: float = 1.0
    wavelength_mm: tuple[float, float] = (30.0, 80.0)


def random_rotation(rng: np.random.Generator, limit_deg: float) -> Tensor:  # (3, 3) float64
    """Product of turns about the three axes, each uniform in ``-limit_deg..limit_deg``."""
    rotation = torch.eye(3, dtype=torch.float64)
    for axis, angle in enumerate(np.radians(rng.uniform(-limit_deg, limit_deg, 3))):
        c, s = math.cos(angle), math.sin(angle)
        a, b = [d for d in range(3) if d != axis]
        turn = torch.eye(3, dtype=torch.float64)
        turn[a, a] = turn[b, b] = c
        turn[a, b], turn[b, a] = -s, s
        rotation = turn @ rotation
    return rotation


class PosedAnatomy:
    """Where the voxels of a subject lie in the average anatomy, and where its landmarks lie in the subject.

    The subject's point ``x`` shows the average anatomy at ``R^T (x + u(x) - t) / s``; ``u`` is the flow of a smooth
    random stationary velocity, integrated on the grid by ``ops.integrate_svf``.

    Args:
        grid: voxels of the subject.
        rng: draws pose and bending.
        ranges: how much subjects differ.
    """

    def __init__(self, grid: Grid, rng: np.random.Generator, ranges: PoseRanges) -> None:
        self.grid = grid
        self.rotation = random_rotation(rng, ranges.rotation_deg)  # (3, 3)
        self.scale = float(rng.uniform(*ranges.scale))
        shift = rng.uniform(-ranges.translation_mm, ranges.translation_mm, 3)
        self.translation = torch.from_numpy(shift)  # (3,) mm
        velocity = _random_velocity(grid, rng, ranges)
        self.displacement = ops.integrate_svf(velocity)  # (1, 3, X, Y, Z) voxels
        self.bend_voxels = float(self.displacement.abs().max())

    def points(self) -> Tensor:  # (3, X, Y, Z) mm
        """The place of every voxel in the average anatomy."""
        axes = torch.meshgrid(*self.grid.axes(), indexing="ij")
        moved = torch.stack(axes) + self.displacement[0] * self.grid.spacing_mm
        moved = moved - self.translation.float().view(3, 1, 1, 1)
        turned = self.rotation.T.float() @ moved.flatten(1)
        return turned.view_as(moved) / self.scale

    def carry(self, landmarks_mm: Tensor) -> Tensor:  # (N, 3) to (N, 3) float64
        """Where landmarks of the average anatomy lie in the subject, in mm.

        Raises:
            ValueError: when the bending cannot be inverted at one of them.
        """
        posed = self.scale * landmarks_mm.double() @ self.rotation.T + self.translation
        first = torch.tensor(self.grid.first_mm, dtype=torch.float64)
        voxels = (posed - first) / self.grid.spacing_mm
        field = self.displacement.double()
        found, converged = ops.warp_points(voxels[None], field, direction="inverse", max_iterations=200, tolerance=1e-6)
        if not converged.all():
            raise ValueError("the bending folds at a landmark; draw it weaker or smoother")
        return found[0] * self.grid.spacing_mm + first

    @property
    def voxel_mm(self) -> float:
        """Size of a voxel in the average anatomy."""
        return self.grid.spacing_mm / self.scale

    def box(self, centre_mm: Tensor, radius_mm: float) -> tuple[slice, ...] | None:
        """The voxels that may show a sphere of the average anatomy; None when there are none."""
        spacing, first = self.grid.spacing_mm, torch.tensor(self.grid.first_mm, dtype=torch.float64)
        middle = (self.scale * self.rotation @ centre_mm.double() + self.translation - first) / spacing
        reach = self.scale * radius_mm / spacing + self.bend_voxels
        region = []
        for at, n in zip(middle.tolist(), self.grid.shape, strict=True):
            start, stop = max(math.ceil(at - reach), 0), min(math.floor(at + reach) + 1, n)
            if start >= stop:
                return None
            region.append(slice(start, stop))
        return tuple(region)


def _random_velocity(grid: Grid, rng: np.random.Generator, ranges: PoseRanges) -> Tensor:  # (1, 3, X, Y, Z) voxels
    """A sum of plane waves, each with a random vector, as products of one exponential an axis."""
    direction = rng.standard_normal((_WAVES, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    frequency = torch.from_numpy(2 * np.pi * direction / rng.uniform(*ranges.wavelength_mm, (_WAVES, 1))).float()
    phase = torch.from_numpy(rng.uniform(0, 2 * np.pi, _WAVES)).float()
    strength = math.sqrt(2 / _WAVES) * ranges.deformation_mm / grid.spacing_mm
    vectors = torch.from_numpy(rng.standard_normal((_WAVES, 3)) * strength).float()
    waves = [torch.polar(torch.ones(_WAVES, len(a)), frequency[:, d : d + 1] * a) for d, a in enumerate(grid.axes())]
    start = torch.polar(torch.ones(_WAVES), phase)[:, None] * vectors  # (K, 3)
    plane = torch.einsum("kc,kx,ky->kcxy", start, waves[0], waves[1])
    return torch.einsum("kcxy,kz->cxyz", plane, waves[2]).imag.contiguous()[None]


def annotate(
    landmarks_mm: Tensor,  # (N, 3)
    seed: Sequence[int],
    *,
    std_mm: float,
) -> Tensor:  # (N, 3) float64
    """Landmarks as a person would set them: with a normal error of ``std_mm`` along every axis."""
    rng = np.random.default_rng(seed)
    return landmarks_mm.double() + std_mm * torch.from_numpy(rng.standard_normal(tuple(landmarks_mm.shape)))
