"""Pictures of the head phantom as a scanner would take them; independent of the training generator.

Tissue contrast comes from relaxation times and the signal equations of real sequences (or from Hounsfield units), the
acquisition from a slice profile, coil sensitivities and Rician noise. Nothing here is drawn from the training
generator's distributions and none of its code is called.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from medsynth_ext.phantoms.head import HeadPhantom, grid_affine, grid_axes
from medsynth_ext.phantoms.head_anatomy import FAT, RIGHT_OF
from medsynth_ext.phantoms.shapes import interpolation_matrix

__all__ = [
    "HOUNSFIELD",
    "RELAXATION",
    "RENDER_CONTRASTS",
    "Contrast",
    "render_head",
    "resample_to_phantom",
    "smooth_field",
]

# Proton density (water = 1), T1 and T2 in ms, left labels standing for both sides: typical values of the order that is
# reported at 3 T, chosen here for plausible contrast and not taken from any one table.
RELAXATION: dict[int, tuple[float, float, float]] = {
    0: (0.0, 1000.0, 50.0),
    2: (0.70, 832.0, 69.0),
    3: (0.82, 1331.0, 99.0),
    4: (1.00, 4300.0, 1800.0),
    7: (0.71, 860.0, 72.0),
    8: (0.83, 1380.0, 100.0),
    10: (0.77, 1130.0, 78.0),
    11: (0.81, 1270.0, 85.0),
    12: (0.80, 1180.0, 77.0),
    13: (0.73, 950.0, 56.0),
    14: (1.00, 4300.0, 1800.0),
    15: (1.00, 4300.0, 1600.0),
    16: (0.73, 930.0, 74.0),
    17: (0.84, 1400.0, 108.0),
    24: (1.00, 4200.0, 1500.0),
    25: (0.86, 1350.0, 160.0),
    506: (0.98, 3800.0, 1000.0),
    507: (0.78, 1410.0, 45.0),
    FAT: (0.90, 382.0, 68.0),
    509: (0.85, 1500.0, 120.0),
    511: (0.65, 900.0, 40.0),
    512: (0.73, 950.0, 76.0),
    515: (0.12, 400.0, 2.0),
    516: (0.60, 550.0, 55.0),
}

# Hounsfield units of the unenhanced head: typical values.
HOUNSFIELD: dict[int, float] = {
    0: -1000.0,
    2: 28.0,
    3: 37.0,
    4: 6.0,
    7: 29.0,
    8: 37.0,
    10: 36.0,
    11: 37.0,
    12: 36.0,
    13: 35.0,
    14: 6.0,
    15: 7.0,
    16: 30.0,
    17: 36.0,
    24: 9.0,
    25: 20.0,
    506: 12.0,
    507: 52.0,
    FAT: -90.0,
    509: 40.0,
    511: 35.0,
    512: 32.0,
    515: 1050.0,
    516: 420.0,
}


@dataclass(frozen=True)
class Contrast:
    """A sequence: times in milliseconds. Without ``inversion_ms`` it is a spin echo; ``ct`` ignores all times."""

    repetition_ms: float = 0.0
    echo_ms: float = 0.0
    inversion_ms: float | None = None
    ct: bool = False

    def means(self) -> dict[int, float]:
        """Mean of every tissue: Hounsfield units, or the magnitude of the signal."""
        if self.ct:
            return dict(HOUNSFIELD)
        out = {}
        for tissue, (density, t1, t2) in RELAXATION.items():
            recovery = 1 - math.exp(-self.repetition_ms / t1)
            if self.inversion_ms is not None:
                recovery = 1 - 2 * math.exp(-self.inversion_ms / t1) + math.exp(-self.repetition_ms / t1)
            out[tissue] = density * abs(recovery) * math.exp(-self.echo_ms / t2)
        return out


# DBS is a white-matter-nulled gradient echo as used to plan deep brain stimulation: an early inversion time makes deep
# grey matter bright on dark white matter.
RENDER_CONTRASTS: dict[str, Contrast] = {
    "T1": Contrast(repetition_ms=2530, echo_ms=3, inversion_ms=1100),
    "T2": Contrast(repetition_ms=4500, echo_ms=95),
    "PD": Contrast(repetition_ms=3000, echo_ms=14),
    "FLAIR": Contrast(repetition_ms=9000, echo_ms=115, inversion_ms=2500),
    "DBS": Contrast(repetition_ms=3000, echo_ms=4, inversion_ms=480),
    "CT": Contrast(ct=True),
}
CT_NOISE_UNIT_HU = 100.0
CORTEX, MR_CORTEX_LEVEL = 3, 400.0  # the tissue that MR noise and the arbitrary MR scale refer to


def render_head(
    phantom: HeadPhantom,
    contrast: str,
    seed: int,
    *,
    spacing_mm: float | Sequence[float] | None = None,
    thickness_mm: float | Sequence[float] | None = None,
    noise: float = 0.03,
    bias: float = 1.0,
    variation: float = 0.08,
    texture: float = 0.02,
    means_shift: float = 0.0,
) -> MetaTensor:  # (1, D, H, W) float32
    """Scan a phantom: tissue means, partial volume, slice profile, coil bias and noise; a pure function of its input.

    Tissues are painted at half the phantom's voxel size and integrated over each slice profile: a box of the slice
    thickness convolved with a Gaussian, along all three axes.

    Args:
        phantom: The head.
        contrast: A key of ``RENDER_CONTRASTS``.
        seed: A whole number from 0, independent of the phantom's.
        spacing_mm: Voxel size along right, anterior, superior; the phantom's where ``None``, not below half of it.
        thickness_mm: Slice thickness per axis; as ``spacing_mm`` where ``None``.
        noise: Deviation of the noise over the signal of cortex at the middle of the coil; for CT over 100 HU.
        bias: Exponent on the relative coil sensitivity: 0 for none, 1 for a common head coil, 2 for strong bias.
            CT has none.
        variation: Largest smooth deviation of a tissue's mean from place to place, relative (CT: of 40 HU).
        texture: Deviation of fine variation inside a tissue, relative (CT: of 40 HU).
        means_shift: Every tissue's mean is multiplied by a factor uniform in 1 +- this (CT: 40 HU times it is added).

    Returns:
        The image on its own grid, with ``affine`` (voxel indices to millimetres, RAS) that fits the phantom's; CT in
        HU, MR in arbitrary units with cortex near 400.

    Raises:
        ValueError: If an argument is out of range; the message says what was wanted and what came.
    """
    if contrast not in RENDER_CONTRASTS:
        raise ValueError(f"contrast must be one of {sorted(RENDER_CONTRASTS)}, got {contrast!r}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed must be a whole number from 0, got {seed!r}")
    options = {"noise": noise, "bias": bias, "variation": variation, "texture": texture, "means_shift": means_shift}
    for name, value in options.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be finite and at least 0, got {value}")
    fine_mm = phantom.spacing_mm / 2
    spacing = _three("spacing_mm", phantom.spacing_mm if spacing_mm is None else spacing_mm, fine_mm)
    thickness = _three("thickness_mm", spacing if thickness_mm is None else thickness_mm, fine_mm)
    shape = [max(1, round(n * phantom.spacing_mm / h)) for n, h in zip(phantom.shape, spacing, strict=True)]
    rng = np.random.default_rng([seed, 101])
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    sequence = RENDER_CONTRASTS[contrast]

    signal = _paint(phantom, sequence, rng, generator, variation, texture, means_shift)
    fine_shape, fine_spacing = tuple(signal.shape), (fine_mm,) * 3
    outside = HOUNSFIELD[0] if sequence.ct else 0.0
    sources, targets = grid_axes(fine_shape, fine_spacing), grid_axes(shape, spacing)
    signal -= outside  # beyond the field of view is air
    for axis in range(3):
        profile = slice_profile(sources[axis], targets[axis], fine_mm=fine_mm, thickness_mm=thickness[axis])
        signal = torch.movedim(torch.tensordot(profile, signal, dims=([1], [axis])), 0, axis)
    signal += outside

    if sequence.ct:
        image = signal + noise * CT_NOISE_UNIT_HU * torch.randn(signal.shape, generator=generator)
        image.clamp_(min=-1024.0)
    else:
        if bias > 0:
            signal = signal * coil_sensitivity(targets, rng) ** bias
        level = sequence.means()[CORTEX]
        sigma = noise * level
        real = signal + sigma * torch.randn(signal.shape, generator=generator)
        imaginary = sigma * torch.randn(signal.shape, generator=generator)
        image = (real**2 + imaginary**2).sqrt() * (MR_CORTEX_LEVEL / level)
    return MetaTensor(image[None].contiguous(), affine=grid_affine(shape, spacing))


def resample_to_phantom(image: MetaTensor, phantom: HeadPhantom) -> MetaTensor:  # (1, D, H, W) -> phantom's grid
    """Linear resampling of a rendered image onto the phantom's isotropic grid; the border value is held outside."""
    if image.ndim != 4:
        raise ValueError(f"image must be (1, D, H, W), got {tuple(image.shape)}")
    data = image.as_tensor().float()
    for axis in range(3):
        step, start = float(image.affine[axis, axis]), float(image.affine[axis, 3])
        nodes = start + step * torch.arange(data.shape[axis + 1])
        target = grid_axes(phantom.shape, (phantom.spacing_mm,) * 3)[axis]
        if len(nodes) == 1:
            data = data.repeat_interleave(len(target), dim=axis + 1)
            continue
        weights = interpolation_matrix(nodes, target)
        data = torch.movedim(torch.tensordot(weights, data, dims=([1], [axis + 1])), 0, axis + 1)
    return MetaTensor(data.contiguous(), affine=phantom.affine)


def slice_profile(sources: Tensor, targets: Tensor, *, fine_mm: float, thickness_mm: float) -> Tensor:  # (T, S)
    """Weights of the fine planes in every slice: a box of ``thickness_mm`` convolved with a Gaussian.

    The Gaussian's deviation is 0.15 of the thickness. Weights are integrals over the fine cells and sum to one over an
    endless field, so a slice that reaches over the border sees air there.
    """
    sigma = 0.15 * thickness_mm * math.sqrt(2)
    edges = torch.cat([sources - fine_mm / 2, sources[-1:] + fine_mm / 2]).double()
    t = (edges[None, :] - targets.double()[:, None]) / sigma  # (T, S + 1)
    half = 0.5 * thickness_mm / sigma

    def primitive(u: Tensor) -> Tensor:  # of erf
        return u * torch.erf(u) + torch.exp(-(u**2)) / math.sqrt(math.pi)

    cumulative = 0.25 * (primitive(t + half) - primitive(t - half)) / half
    return (cumulative[:, 1:] - cumulative[:, :-1]).float()


def coil_sensitivity(axes: Sequence[Tensor], rng: np.random.Generator, *, coils: int = 8) -> Tensor:  # (D, H, W)
    """Root sum of squares of circular receive loops around the head, one at the middle of the grid.

    Every loop falls off as on its axis, ``R^3 / (R^2 + d^2)^(3/2)`` at a distance ``d`` from its centre, and has its
    own gain and a position off the regular helmet.
    """
    centre = [float(axis.mean()) for axis in axes]
    reach = np.array([135.0, 155.0, 145.0])  # mm from the middle, along right, anterior, superior
    total = torch.zeros([len(axis) for axis in axes])
    for k in range(coils):
        angle = 2 * np.pi * (k + rng.uniform(-0.25, 0.25)) / coils
        height = rng.uniform(-0.25, 0.75)
        ring = math.sqrt(1 - height**2)
        place = reach * np.array([ring * math.cos(angle), ring * math.sin(angle), height]) * rng.uniform(0.9, 1.1)
        radius, gain = rng.uniform(80.0, 110.0), rng.uniform(0.6, 1.4)
        d2 = [(axis - c - float(p)) ** 2 for axis, c, p in zip(axes, centre, place, strict=True)]
        distance2 = d2[0][:, None, None] + d2[1][None, :, None] + d2[2][None, None, :]
        total += (gain * radius**3) ** 2 / (radius**2 + distance2) ** 3
    total.sqrt_()
    return total / total[tuple(n // 2 for n in total.shape)]


def _paint(
    phantom: HeadPhantom,
    sequence: Contrast,
    rng: np.random.Generator,
    generator: torch.Generator,
    variation: float,
    texture: float,
    means_shift: float,
) -> Tensor:  # (2D, 2H, 2W)
    """Noise-free signal at half the voxel size."""
    means = sequence.means()
    tissues = phantom.fine_tissues.int()
    unit = 40.0 if sequence.ct else None  # HU that stand for a relative change of one
    table, spread = torch.zeros(FAT + 1), torch.zeros(FAT + 1)
    mixture = torch.zeros(FAT + 1, 3)
    for tissue in sorted(means):
        mean = means[tissue]
        # Both sides share the draw: left and right differ only through the smooth fields.
        shift, mix = rng.uniform(-means_shift, means_shift), rng.dirichlet(np.ones(3)) * rng.choice([-1.0, 1.0], 3)
        size = abs(mean) if unit is None else unit * (tissue != 0)
        for value in {tissue, RIGHT_OF.get(tissue, tissue)}:
            table[value], spread[value] = mean + shift * size, size
            mixture[value] = torch.from_numpy(mix).float()
    signal, deviation = table[tissues], torch.zeros(tissues.shape)
    for k in range(3):
        weights = mixture[:, k] * variation * spread
        deviation += weights[tissues] * smooth_field(tissues.shape, phantom.spacing_mm / 2, rng)
    if texture > 0:
        deviation += texture * spread[tissues] * torch.randn(tissues.shape, generator=generator)
    return signal + deviation


def smooth_field(shape: Sequence[int], spacing_mm: float, rng: np.random.Generator, *, terms: int = 6) -> Tensor:
    """A smooth field in [-1, 1]: a mean of products of one cosine per axis with periods of 60 to 200 mm."""
    axes = grid_axes(shape, (spacing_mm,) * 3)
    factors = []
    for axis in axes:
        frequency = torch.from_numpy(2 * np.pi / rng.uniform(60, 200, (terms, 1))).float()
        phase = torch.from_numpy(rng.uniform(0, 2 * np.pi, (terms, 1))).float()
        factors.append(torch.cos(frequency * axis[None, :] + phase))
    field = torch.einsum("ka,kb,kc->abc", *factors)
    return field / field.abs().max().clamp(min=1e-6)


def _three(name: str, value: float | Sequence[float], least: float) -> tuple[float, float, float]:
    values = (value,) * 3 if isinstance(value, int | float) else tuple(value)
    if len(values) != 3 or not all(math.isfinite(v) and v >= least for v in values):
        raise ValueError(f"{name} must be one number or three, each at least {least}, got {value}")
    return float(values[0]), float(values[1]), float(values[2])
