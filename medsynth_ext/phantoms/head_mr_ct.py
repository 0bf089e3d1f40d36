"""The head phantom in T1-weighted MR and in CT, voxel by voxel of the same person."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from torch import Tensor

from medsynth_ext import ops
from medsynth_ext.phantoms.head import HeadPhantom, grid_axes, head_phantom
from medsynth_ext.phantoms.head_anatomy import FAT, RIGHT_OF
from medsynth_ext.phantoms.rendering import HOUNSFIELD, smooth_field

__all__ = ["T1_SIGNAL", "HeadPair", "head_mr_ct", "with_air_cells"]

AIR, COMPACT, SPONGY = 0, 515, 516

# Magnitude of a T1-weighted scan relative to its brightest tissue; left labels stand for both sides. Compact bone and
# air are equally dark: only their place tells them apart.
T1_SIGNAL: dict[int, float] = {
    AIR: 0.02,
    2: 0.75,
    3: 0.55,
    4: 0.20,
    7: 0.73,
    8: 0.54,
    10: 0.62,
    11: 0.56,
    12: 0.58,
    13: 0.66,
    14: 0.20,
    15: 0.20,
    16: 0.68,
    17: 0.54,
    24: 0.20,
    25: 0.50,
    506: 0.22,
    507: 0.48,
    FAT: 0.85,
    509: 0.45,
    511: 0.50,
    512: 0.66,
    COMPACT: 0.05,
    SPONGY: 0.55,
}
SIGNAL_JITTER = 0.03
BIAS, MR_BLUR_VOXELS, MR_NOISE = 0.25, 0.6, 0.03
CT_BLUR_VOXELS, CT_NOISE_HU, CT_JITTER_HU = 0.5, 12.0, 4.0
MR_UNITS = (300.0, 900.0)  # of the brightest tissue: MR has no absolute scale
COMPACT_HU, SPONGY_HU, FAT_HU = (1000.0, 1800.0), (300.0, 600.0), (-110.0, -60.0)

# Air cells of the mastoid and petrous bone, in mm of the grid: their number, radius and bony wall.
CELLS, CELL_RADIUS_MM, CELL_WALL_MM = (10, 20), (1.5, 4.0), 1.2
MASTOID_LOW, MASTOID_HIGH = (36.0, -30.0, -62.0), (72.0, 10.0, -26.0)  # |x|, y, z
MISREGISTRATION_LENGTH_MM = 30.0


@dataclass(frozen=True)
class HeadPair:
    """Two scans of one head on one grid (RAS)."""

    phantom: HeadPhantom
    mr: MetaTensor  # (1, D, H, W) float32, arbitrary units
    ct: MetaTensor  # (1, D, H, W) float32, HU


def head_mr_ct(
    seed: int,
    *,
    shape: Sequence[int] = (96, 96, 96),
    spacing_mm: float = 2.0,
    population: str = "old",
    misregistration_voxels: float = 0.0,
) -> HeadPair:
    """Scan a head in MR and in CT; a pure function of its arguments.

    Anatomy, its bending by a random flow and its sliders come from :func:`head_phantom`; here it gets air cells with
    thin walls near the base of the skull. Both scans are painted at half the voxel size and averaged over voxels. MR:
    contrast of every tissue within ``SIGNAL_JITTER``, a smooth bias field, blur, Rician noise. CT: HU of every tissue
    and person, blur, normal noise.

    Args:
        seed: a whole number from 0.
        shape: voxels along right, anterior, superior.
        spacing_mm: isotropic voxel size.
        population: of :func:`head_phantom`.
        misregistration_voxels: root mean square of a smooth random displacement of the CT along every axis.

    Raises:
        ValueError: for an argument out of range.
    """
    if not (math.isfinite(misregistration_voxels) and misregistration_voxels >= 0):
        raise ValueError(f"misregistration_voxels must be finite and at least 0, got {misregistration_voxels}")
    phantom = head_phantom(seed, shape=shape, spacing_mm=spacing_mm, population=population)
    cells_rng, mr_rng, ct_rng, shift_rng = (np.random.default_rng([seed, 301 + k]) for k in range(4))
    tissues = with_air_cells(phantom, cells_rng)
    mr, ct = _scan_mr(phantom, tissues, mr_rng), _scan_ct(phantom, tissues, ct_rng)
    if misregistration_voxels > 0:
        ct = ops.warp(ct[None], _random_shift(phantom, misregistration_voxels, shift_rng))[0]
    return HeadPair(phantom, *(MetaTensor(image.contiguous(), affine=phantom.affine) for image in (mr, ct)))


def with_air_cells(phantom: HeadPhantom, rng: np.random.Generator) -> Tensor:  # (2D, 2H, 2W) int16
    """Tissues at half the voxel size, with air cells drilled into the bone behind and below the ears."""
    tissues = phantom.fine_tissues.clone()
    fine_mm = phantom.spacing_mm / 2
    x, y, z = grid_axes(tuple(tissues.shape), (fine_mm,) * 3)
    scale = phantom.parameters.size
    inside = [
        (low * scale <= axis) & (axis <= high * scale)
        for axis, low, high in zip((x.abs(), y, z), MASTOID_LOW, MASTOID_HIGH, strict=True)
    ]
    region = inside[0][:, None, None] & inside[1][None, :, None] & inside[2][None, None, :]
    bone = (region & ((tissues == COMPACT) | (tissues == SPONGY))).nonzero()
    count = int(rng.integers(CELLS[0], CELLS[1] + 1))
    radii = rng.uniform(*CELL_RADIUS_MM, count)
    chosen = rng.random(count)
    if not len(bone):
        return tissues  # a grid so coarse or small that it holds no mastoid
    centres = bone[torch.from_numpy((chosen * len(bone)).astype(np.int64))]
    spheres = []
    for centre, radius in zip(centres.tolist(), radii.tolist(), strict=True):
        reach = math.ceil((radius + CELL_WALL_MM) / fine_mm) + 1
        box = tuple(slice(max(0, c - reach), c + reach + 1) for c in centre)
        local = [((a[b] - a[c]) ** 2) for a, b, c in zip((x, y, z), box, centre, strict=True)]
        distance = (local[0][:, None, None] + local[1][None, :, None] + local[2][None, None, :]).sqrt()
        spheres.append((box, distance, radius))
    # Brain, fluid, skin and the air outside stay; cells that touch open into each other, so walls come first.
    keeps = torch.tensor([COMPACT, SPONGY, 507, FAT, 509], dtype=tissues.dtype)
    for wall, value in ((CELL_WALL_MM, COMPACT), (0.0, AIR)):
        for box, distance, radius in spheres:
            part = tissues[box]
            part[(distance < radius + wall) & torch.isin(part, keeps)] = value
    return tissues


def _scan_mr(phantom: HeadPhantom, tissues: Tensor, rng: np.random.Generator) -> Tensor:  # (1, D, H, W)
    table = {
        tissue: max(0.0, level + float(rng.uniform(-SIGNAL_JITTER, SIGNAL_JITTER)))
        for tissue, level in T1_SIGNAL.items()
    }
    signal = ops.gaussian_blur(_paint(tissues, table), MR_BLUR_VOXELS)[0]
    signal = signal * (1 + BIAS * smooth_field(signal.shape[1:], phantom.spacing_mm, rng))
    real, imaginary = (torch.from_numpy(rng.standard_normal(tuple(signal.shape))).float() for _ in range(2))
    magnitude = ((signal + MR_NOISE * real) ** 2 + (MR_NOISE * imaginary) ** 2).sqrt()
    return magnitude * float(rng.uniform(*MR_UNITS))


def _scan_ct(phantom: HeadPhantom, tissues: Tensor, rng: np.random.Generator) -> Tensor:  # (1, D, H, W)
    table = {
        tissue: level + float(rng.uniform(-CT_JITTER_HU, CT_JITTER_HU)) * (tissue != AIR)
        for tissue, level in HOUNSFIELD.items()
    }
    for tissue, span in ((COMPACT, COMPACT_HU), (SPONGY, SPONGY_HU), (FAT, FAT_HU)):
        table[tissue] = float(rng.uniform(*span))
    hu = ops.gaussian_blur(_paint(tissues, table), CT_BLUR_VOXELS)[0]
    noise = torch.from_numpy(rng.standard_normal(tuple(hu.shape))).float()
    return (hu + CT_NOISE_HU * noise).clamp(min=-1024.0)


def _paint(tissues: Tensor, table: dict[int, float]) -> Tensor:  # (2D, 2H, 2W) to (1, 1, D, H, W)
    """The value of every tissue, averaged over the eight parts of a voxel."""
    values = torch.zeros(max(table) + 1)
    for tissue, value in table.items():
        values[tissue] = value
        values[RIGHT_OF.get(tissue, tissue)] = value
    return F.avg_pool3d(values[tissues.int()][None, None], 2)


def _random_shift(phantom: HeadPhantom, strength: float, rng: np.random.Generator) -> Tensor:  # (1, 3, D, H, W)
    noise = torch.from_numpy(rng.standard_normal((1, 3, *phantom.shape))).float()
    velocity = ops.gaussian_blur(noise, min(MISREGISTRATION_LENGTH_MM / phantom.spacing_mm, min(phantom.shape) / 3))
    displacement = ops.integrate_svf(velocity * (strength / velocity.pow(2).mean().sqrt()))
    return displacement * (strength / displacement.pow(2).mean().sqrt())
