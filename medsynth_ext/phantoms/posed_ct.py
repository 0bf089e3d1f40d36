"""CT of one structure in a posed anatomy, with its outline and landmarks: what such phantoms share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from medsynth_ext import ops
from medsynth_ext.phantoms.painter import Grid

__all__ = ["PosedPhantom", "check_in_view", "lay", "scanned"]

_NOISE_STREAM = 1


@dataclass(frozen=True)
class PosedPhantom:
    """One subject. Arrays run along right, anterior, superior (RAS).

    Args:
        image: (X, Y, Z) float32 HU.
        mask: (X, Y, Z) uint8, the structure.
        landmarks_mm: (N, 3) float64, world.
        landmark_names: of them.
        grid: the voxels.
        rotation: (3, 3) of the subject, from the average anatomy.
    """

    image: Tensor = field(repr=False)
    mask: Tensor = field(repr=False)
    landmarks_mm: Tensor
    landmark_names: tuple[str, ...]
    grid: Grid
    rotation: Tensor = field(repr=False)

    @property
    def affine(self) -> Tensor:  # (4, 4) float64
        """Voxel indices to world millimetres."""
        return self.grid.affine


def check_in_view(landmarks_mm: Tensor, names: Sequence[str], grid: Grid, seed: int) -> None:
    """Refuse a subject whose landmarks are not all on a grid about the origin.

    Raises:
        ValueError: with the first of those that are not.
    """
    outside = (landmarks_mm.abs() > torch.tensor(grid.first_mm, dtype=torch.float64).abs()).any(1)
    if outside.any():
        name = names[int(outside.nonzero()[0])]
        raise ValueError(f"{name} of subject {seed} lies outside of the field of view; lower translation_mm")


def lay(image: Tensor, depth: Tensor, value: float | Tensor, voxel_mm: float) -> Tensor:
    """Draw where the depth is positive, with an edge of a voxel."""
    return torch.lerp(image, torch.as_tensor(value).expand_as(image), (depth / voxel_mm + 0.5).clamp_(0, 1))


def scanned(
    image: Tensor,  # (X, Y, Z) HU
    rng: np.random.Generator,
    *,
    seed: int,
    spacing_mm: float,
    blur_mm: tuple[float, float],
    gain: float,
    noise_hu: float,
) -> Tensor:  # (X, Y, Z) HU
    """Resolution, calibration and noise of the scanner.

    Args:
        image: what is there.
        rng: draws resolution and calibration.
        seed: of the noise.
        spacing_mm: voxel size.
        blur_mm: standard deviation of the resolution, smallest and largest.
        gain: largest relative error of the calibration.
        noise_hu: standard deviation of the noise.
    """
    sigma = float(rng.uniform(*blur_mm)) / spacing_mm
    image = ops.gaussian_blur(image[None, None], sigma)[0, 0]
    image = (image + 1000) * (1 + float(rng.uniform(-gain, gain))) - 1000
    noise = ops.rand_normal((1, 1, *image.shape), seed=seed, stream=_NOISE_STREAM)[0, 0]
    return (image + noise_hu * noise).clamp_(-1024, 3071)
