"""A chest in one slice: lungs with vessels and, in some, infected regions; the same slice under several kernels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medsynth_ext import ops
from medsynth_ext.ops import CTGeometry
from medsynth_ext.phantoms.shapes import Waves, flow_displacement

__all__ = [
    "KERNELS",
    "ChestSlice",
    "add_lesions",
    "chest_slice",
    "coarse_mask",
    "infect_lungs",
    "scan_slice",
]

FINE = 2  # anatomy is drawn, and projected, on pixels of half the size
WATER_PER_MM = 0.02
AIR, LUNG, FAT, MUSCLE, HEART, BONE, VESSEL = -1000.0, -860.0, -90.0, 45.0, 50.0, 400.0, 40.0


@dataclass(frozen=True)
class ChestSlice:
    """One axial slice; rows run from front to back, columns from right to left."""

    fine_hu: Tensor  # (2 N, 2 N) HU without noise
    lesions: Tensor  # (N, N) bool
    lungs: Tensor  # (N, N) bool
    spacing_mm: float


def chest_slice(
    seed: int, *, size: int = 128, spacing_mm: float = 2.5, lesions: int | None = None, vessels: int | None = None
) -> ChestSlice:
    """Draw a chest from a seed.

    Args:
        seed: addresses the person.
        size: pixels N of the slice.
        spacing_mm: pixel size; N times it should be about 320 mm.
        lesions: number of infected regions; 0 to 4 at random by default.
        vessels: number of vessels in the lungs; 60 to 100 at random by default.
    """
    rng = np.random.default_rng([seed, 271])
    y, x = _fine_positions(FINE * size, spacing_mm)
    points = torch.stack([x.flatten(), y.flatten(), torch.zeros(x.numel())], 1)
    bend = flow_displacement(rng, points, strength_mm=3.0, wavelength_mm=(110.0, 260.0), steps=1)
    x, y = (x + bend[:, 0].view_as(x)), (y + bend[:, 1].view_as(y))
    zero = torch.zeros_like(x)

    def ellipse(cx: float, cy: float, rx: float, ry: float, power: float = 2.0) -> Tensor:
        return ((x - cx) / rx).abs() ** power + ((y - cy) / ry).abs() ** power < 1

    width, depth = rng.uniform(132, 146), rng.uniform(92, 106)
    hu = torch.full_like(x, AIR)
    hu[ellipse(0, 0, width, depth, 2.3)] = FAT + rng.uniform(-15, 15)
    rim = rng.uniform(10, 18)
    hu[ellipse(0, 0, width - rim, depth - rim, 2.3)] = MUSCLE + rng.uniform(-10, 10)
    lungs = torch.zeros_like(x, dtype=torch.bool)
    for side in (-1, 1):
        lungs |= ellipse(side * rng.uniform(60, 66), rng.uniform(-4, 6), rng.uniform(43, 49), rng.uniform(62, 72), 2.4)
    heart = ellipse(rng.uniform(8, 22), rng.uniform(-30, -15), rng.uniform(38, 48), rng.uniform(30, 38))
    lungs &= ~heart
    texture = Waves.draw(rng, 12, (6.0, 60.0)).value(x, y, zero)
    hu = torch.where(lungs, LUNG + rng.uniform(-20, 20) + 15 * texture, hu)
    hu[heart & ellipse(0, 0, width - rim, depth - rim, 2.3)] = HEART + rng.uniform(-10, 10)
    spine = ellipse(0, depth - rim - 22, 20, 17)
    lungs &= ~spine
    hu[spine] = BONE * rng.uniform(0.4, 0.6)
    hu[spine & ~ellipse(0, depth - rim - 22, 16, 13)] = BONE * rng.uniform(0.9, 1.3)
    _add_ribs(hu, x, y, lungs, rng, width - rim, depth - rim)
    count = int(rng.integers(0, 5)) if lesions is None else lesions
    infected = add_lesions(hu, (x, y, zero), lungs, rng, count)
    _add_vessels(hu, x, y, lungs, rng, int(rng.integers(60, 101)) if vessels is None else vessels)
    return ChestSlice(hu, coarse_mask(infected), coarse_mask(lungs), spacing_mm)


def infect_lungs(
    fine_hu: Tensor,  # (2 N, 2 N) HU
    fine_lungs: Tensor,  # (2 N, 2 N) bool
    seed: int,
    *,
    spacing_mm: float,
    lesions: int | None = None,
) -> ChestSlice:
    """Put the phantom's infected regions into given lungs, those of a real CT for example.

    Args:
        fine_hu: the slice on pixels of half the size; not changed.
        fine_lungs: where regions may be.
        seed: addresses the regions.
        spacing_mm: pixel size of the slice that comes of it, two of ``fine_hu``'s.
        lesions: number of regions; 0 to 4 at random by default.

    Raises:
        ValueError: for a slice that is not square with an even number of pixels, or without lung.
    """
    _check_fine(fine_hu)
    if fine_lungs.shape != fine_hu.shape or not fine_lungs.any():
        raise ValueError(f"fine_lungs must be {tuple(fine_hu.shape)} with lung, got {tuple(fine_lungs.shape)}")
    rng = np.random.default_rng([seed, 272])
    y, x = _fine_positions(len(fine_hu), spacing_mm)
    hu = fine_hu.clone()
    count = int(rng.integers(0, 5)) if lesions is None else lesions
    infected = add_lesions(hu, (x, y, torch.zeros_like(x)), fine_lungs, rng, count)
    return ChestSlice(hu, coarse_mask(infected), coarse_mask(fine_lungs), spacing_mm)


def _fine_positions(pixels: int, spacing_mm: float) -> tuple[Tensor, Tensor]:  # rows and columns in mm
    axis = (torch.arange(pixels) - (pixels - 1) / 2) * spacing_mm / FINE
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return y, x


def coarse_mask(mask: Tensor) -> Tensor:  # (2 N, 2 N) bool -> (N, N)
    """Pixels of which at least half is marked."""
    return torch.nn.functional.avg_pool2d(mask[None].float(), FINE)[0] >= 0.5


def _check_fine(fine_hu: Tensor) -> None:
    if fine_hu.ndim != 2 or fine_hu.shape[0] != fine_hu.shape[1] or fine_hu.shape[0] % FINE:
        raise ValueError(f"fine_hu must be (2 N, 2 N), got {tuple(fine_hu.shape)}")


def _add_ribs(
    hu: Tensor, x: Tensor, y: Tensor, lungs: Tensor, rng: np.random.Generator, width: float, depth: float
) -> None:
    for angle in np.arange(0, 360, 36) + rng.uniform(0, 36):
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        cx, cy = (width - 7) * c * 0.98, (depth - 7) * s * 0.98
        # Long across the radius, as a rib that is cut obliquely.
        along, across = -(x - cx) * s + (y - cy) * c, (x - cx) * c + (y - cy) * s
        rib = ((along / rng.uniform(8, 14)) ** 2 + (across / rng.uniform(3.5, 5)) ** 2 < 1) & ~lungs
        hu[rib] = BONE * rng.uniform(0.6, 1.2)


def _inside(lungs: Tensor, rng: np.random.Generator) -> tuple[int, ...]:
    places = lungs.nonzero()
    return tuple(places[int(rng.integers(len(places)))].tolist())


def add_lesions(
    hu: Tensor,  # (*S) HU, drawn into
    points: tuple[Tensor, Tensor, Tensor],  # (*S) mm each: across, front to back, along the body
    lungs: Tensor,  # (*S) bool
    rng: np.random.Generator,
    count: int,
) -> Tensor:  # (*S) bool
    """Ground glass with a soft irregular border, some with a solid core, in a slice or in a stack of slices."""
    x, y, z = points
    infected = torch.zeros_like(lungs)
    for _ in range(count):
        place = _inside(lungs, rng)
        radius, stretch, turn = rng.uniform(9, 26), rng.uniform(0.7, 1.4), rng.uniform(0, math.pi)
        u, v = x - x[place], y - y[place]
        u, v = u * math.cos(turn) + v * math.sin(turn), v * math.cos(turn) - u * math.sin(turn)
        border = 0.22 * radius * Waves.draw(rng, 10, (10.0, 40.0)).value(x, y, z)
        depth = radius - torch.hypot(torch.hypot(u * stretch, v / stretch), z - z[place]) + border
        grain = Waves.draw(rng, 12, (5.0, 20.0)).value(x, y, z)
        share = (depth / rng.uniform(3, 7) + 0.5).clamp(0, 1) * lungs
        level = rng.uniform(-700, -350)
        hu.copy_(torch.where(share > 0, torch.lerp(hu, level + 45 * grain, share), hu))
        if rng.random() < 0.35:
            core = ((depth - 0.55 * radius) / 4).clamp(0, 1) * lungs
            hu.copy_(torch.lerp(hu, torch.full_like(hu, rng.uniform(-60, 30)), core))
        infected |= share > 0.5
    return infected


def _add_vessels(
    hu: Tensor,  # (2 N, 2 N) HU, drawn into
    x: Tensor,
    y: Tensor,
    lungs: Tensor,
    rng: np.random.Generator,
    count: int,
) -> None:
    """Pieces of vessels, most of them thin and pointing to the root of their lung."""
    for _ in range(count):
        place = _inside(lungs, rng)
        cx, cy = float(x[place]), float(y[place])
        radius = 0.8 + 2.7 * rng.beta(1.0, 3.0)
        length, turn = radius * rng.uniform(1, 5), math.atan2(cy, cx - math.copysign(25, cx)) + rng.normal(0, 0.4)
        u, v = x - cx, y - cy
        along = (u * math.cos(turn) + v * math.sin(turn)).abs()
        across = v * math.cos(turn) - u * math.sin(turn)
        depth = radius - torch.hypot((along - length).clamp_min(0), across)
        share = (depth + 0.5).clamp(0, 1) * lungs
        hu.copy_(torch.lerp(hu, torch.full_like(hu, VESSEL), share))


def _gains(w: Tensor) -> dict[str, Tensor]:
    """Gain beside the ramp over w, the share of the highest frequency: none is of the family ``1 + a w^b``."""
    rolloff = torch.where(w > 0.8, torch.cos((w - 0.8) / 0.2 * math.pi / 2) ** 2, torch.ones_like(w))
    gains = {
        "soft": torch.where(w < 0.55, 0.5 + 0.5 * torch.cos(math.pi * w / 0.55), torch.zeros_like(w)),
        "soft2": torch.exp(-((w / 0.45) ** 2)),
        "sharp": (1 + 2.5 * torch.exp(-(((w - 0.55) / 0.22) ** 2))) * rolloff,
        "sharp2": 1 + 1.2 * torch.exp(-(((w - 0.45) / 0.25) ** 2)),
    }
    return {name: gain / gain[0] for name, gain in gains.items()}  # the mean, and so HU, is kept


KERNELS = ("soft", "soft2", "sharp", "sharp2")


@torch.no_grad()
def scan_slice(
    fine_hu: Tensor,  # (2 N, 2 N) HU
    *,
    spacing_mm: float,
    kernels: Sequence[str] = KERNELS,
    views: int = 360,
    photons: float = 1e6,
    seed: int = 0,
) -> Mapping[str, Tensor]:  # kernel -> (N, N) HU
    """Project a slice on its fine pixels, count photons, and reconstruct the same counts with several kernels.

    ``soft`` is a Hann window that ends at 0.55 of the highest frequency, ``soft2`` a Gaussian of 0.45, ``sharp`` and
    ``sharp2`` raise the middle frequencies as bone and lung kernels do.

    Args:
        fine_hu: the slice on pixels of half the size.
        spacing_mm: pixel size of the reconstruction, and the pitch of the detector.
        kernels: names of the kernels.
        views: projections over half a turn.
        photons: mean count of an unattenuated ray.
        seed: of the noise.

    Raises:
        ValueError: for another kernel, or a slice that is not square with an even number of pixels.
    """
    unknown = [name for name in kernels if name not in KERNELS]
    if unknown:
        raise ValueError(f"kernels must be among {', '.join(KERNELS)}, got {unknown[0]!r}")
    _check_fine(fine_hu)
    size = fine_hu.shape[0] // FINE
    bins = math.ceil(math.sqrt(2) * size) + 1
    angles = torch.arange(views, dtype=torch.float64) * math.pi / views
    fine = CTGeometry.parallel2d(angles, bins, spacing_mm, tuple(fine_hu.shape), spacing_mm=spacing_mm / FINE)
    coarse = CTGeometry.parallel2d(angles, bins, spacing_mm, (size, size), spacing_mm=spacing_mm)
    attenuation = (fine_hu.clamp_min(-1000) / 1000 + 1) * WATER_PER_MM
    measured = ops.poisson_noise(ops.ct_forward(attenuation, fine)[None, None], photons, seed=seed)[0, 0]
    length = 1 << (2 * bins - 1).bit_length()
    gains = _gains(torch.arange(length // 2 + 1) / (length // 2))
    lines = torch.fft.rfft(measured, length)
    result = {}
    for name in kernels:
        shaped = torch.fft.irfft(lines * gains[name].to(lines.device), length)[..., :bins].to(measured.dtype)
        result[name] = (ops.fbp(shaped, coarse) / WATER_PER_MM - 1) * 1000
    return result
