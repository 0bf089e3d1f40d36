"""A male pelvis as MR, as CT, and as the CT-like surrogate that an MR scanner computes (classes of bulk density)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medsynth_ext import ops
from medsynth_ext.ops import CTGeometry
from medsynth_ext.phantoms.chest import FINE, WATER_PER_MM
from medsynth_ext.phantoms.pelvis_ct_mr_anatomy import TISSUES, draw_pelvis_anatomy
from medsynth_ext.phantoms.shapes import Waves

__all__ = ["BULK_HU", "STRUCTURES", "PelvisPatient", "pelvis_ct", "pelvis_mr", "pelvis_patient", "pelvis_surrogate"]

# Labels 1 to 5 of `PelvisPatient.structures`; the body is everything but 0.
STRUCTURES = ("rest of the body", "bone", "bladder", "prostate", "rectum")
_STRUCTURE_OF = {"air": 0, "spongy": 2, "compact": 2, "bladder": 3, "prostate": 4, "rectum": 5, "gas": 5}

# Densities of the surrogate's five classes in HU, of the order that is quoted for products of MR-only radiotherapy.
BULK_HU: Mapping[str, float] = {"air": -968.0, "fat": -86.0, "water": 42.0, "spongy": 198.0, "compact": 949.0}

# Mean and deviation from patient to patient in HU, and deviation of the texture inside.
_HU = {
    "air": (-1000.0, 0.0, 0.0),
    "fat": (-100.0, 6.0, 8.0),
    "muscle": (52.0, 5.0, 9.0),
    "spongy": (240.0, 45.0, 60.0),
    "compact": (980.0, 90.0, 90.0),
    "bladder": (8.0, 4.0, 2.0),
    "prostate": (38.0, 4.0, 6.0),
    "rectum": (25.0, 12.0, 22.0),
    "gas": (-960.0, 15.0, 0.0),
    "vesicles": (25.0, 5.0, 5.0),
    "vessel": (45.0, 5.0, 2.0),
}
# In-phase Dixon image, fat = 1.
_MR = {
    "air": (0.0, 0.0, 0.0),
    "fat": (1.0, 0.05, 0.05),
    "muscle": (0.38, 0.03, 0.05),
    "spongy": (0.78, 0.06, 0.08),
    "compact": (0.05, 0.01, 0.01),
    "bladder": (0.24, 0.03, 0.01),
    "prostate": (0.46, 0.03, 0.06),
    "rectum": (0.40, 0.06, 0.10),
    "gas": (0.01, 0.0, 0.0),
    "vesicles": (0.30, 0.04, 0.05),
    "vessel": (0.16, 0.06, 0.02),
}
_STREAMS = {"mr": 1, "ct": 2, "surrogate": 3}


@dataclass(frozen=True)
class PelvisPatient:
    """Axial slices from the feet up; rows run from front to back, columns from right to left.

    Args:
        seed: addresses the patient.
        fine_tissues: (S, 2 N, 2 N) uint8, on pixels of half the size.
        spacing_mm: size of a pixel of the images.
        slice_mm: distance of slices.
        half_depth_mm: from the middle of the body to its back.
    """

    seed: int
    fine_tissues: Tensor
    spacing_mm: float
    slice_mm: float
    half_depth_mm: float

    @property
    def size(self) -> int:
        """Pixels per side of an image."""
        return self.fine_tissues.shape[-1] // FINE

    def rng(self, purpose: str) -> np.random.Generator:
        """Random numbers of this patient for one picture."""
        return np.random.default_rng([self.seed, 708, _STREAMS[purpose]])

    def shares(self, groups: Mapping[str, int]) -> Tensor:  # (S, K, N, N), K = greatest group + 1
        """Share of each group of tissues in every pixel; tissues that are not named are in group 1."""
        table = torch.tensor([groups.get(name, 1) for name in TISSUES])
        count = int(table.max()) + 1
        planes = [(table[self.fine_tissues.long()] == k).float() for k in range(count)]
        return torch.stack([F.avg_pool2d(plane[:, None], FINE)[:, 0] for plane in planes], 1)

    @property
    def structures(self) -> Tensor:  # (S, N, N) uint8
        """0 outside, 1 to 5 as ``STRUCTURES``: what fills most of a pixel."""
        return self.shares(_STRUCTURE_OF).argmax(1).to(torch.uint8)


def pelvis_patient(
    seed: int,
    *,
    size: int = 128,
    spacing_mm: float = 3.2,
    slices: int = 16,
    slice_mm: float = 5.0,
    shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> PelvisPatient:
    """Draw a patient; the same seed gives the same anatomy on every grid.

    Args:
        seed: addresses the patient.
        size: pixels per side; size times spacing should be about 410 mm.
        spacing_mm: of pixels.
        slices: number of slices, around the femoral heads.
        slice_mm: their distance.
        shift_mm: of the field of view: up, to the back, to the left.
    """
    pixels = FINE * size
    plane = (torch.arange(pixels) - (pixels - 1) / 2) * spacing_mm / FINE
    z = (torch.arange(slices) - (slices - 1) / 2) * slice_mm + shift_mm[0]
    # A lying patient takes the middle of the upper part of the picture, so that there is room for a couch.
    anatomy = draw_pelvis_anatomy(seed, (z, plane + 25.0 + shift_mm[1], plane + shift_mm[2]))
    return PelvisPatient(seed, anatomy.tissues, spacing_mm, slice_mm, anatomy.half_depth_mm)


def _painted(
    patient: PelvisPatient, table: Mapping[str, tuple[float, float, float]], rng: np.random.Generator
) -> Tensor:  # (S, 2 N, 2 N)
    """Mean of every tissue in this patient, and texture."""
    means = torch.tensor([mean + deviation * rng.standard_normal() for mean, deviation, _ in table.values()])
    texture = torch.tensor([value for _, _, value in table.values()])
    order = torch.tensor([list(table).index(name) for name in TISSUES])
    tissues = patient.fine_tissues.long()
    z, y, x = _positions(patient)
    grain = 0.6 * Waves.draw(rng, 24, (5.0, 25.0)).value(x, y, z) + 0.8 * Waves.draw(rng, 8, (25.0, 90.0)).value(
        x, y, z
    )
    return means[order][tissues].float() + texture[order][tissues].float() * grain


def _positions(patient: PelvisPatient) -> tuple[Tensor, Tensor, Tensor]:  # z, y, x in mm, (S, 2 N, 2 N) each
    shape = patient.fine_tissues.shape
    steps = (patient.slice_mm, patient.spacing_mm / FINE, patient.spacing_mm / FINE)
    axes = [(torch.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, steps, strict=True)]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    return z, y, x


def pelvis_mr(
    patient: PelvisPatient,
    *,
    noise: float = 0.02,
    bias: float = 0.2,
) -> Tensor:  # (S, N, N)
    """In-phase MR in arbitrary units (fat near 400), with a smooth bias field and Rician noise.

    Args:
        patient: who is scanned.
        noise: deviation in each channel, as a share of fat's signal.
        bias: deviation of the logarithm of the receive field.
    """
    rng = patient.rng("mr")
    signal = F.avg_pool2d(_painted(patient, _MR, rng).clamp_min(0)[:, None], FINE)[:, 0]
    z, y, x = (part[:, ::FINE, ::FINE] for part in _positions(patient))
    signal = signal * (bias * Waves.draw(rng, 6, (350.0, 700.0)).value(x, y, z)).exp()
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    real, imaginary = (noise * torch.randn(signal.shape, generator=generator) for _ in range(2))
    return 400 * torch.hypot(signal + real, imaginary)


def pelvis_surrogate(
    patient: PelvisPatient,
    *,
    bulk_hu: Mapping[str, float] = BULK_HU,
    bone_error: float = 0.35,
    breathing_mm: float = 9.0,
) -> Tensor:  # (S, N, N) HU, whole numbers
    """The CT that an MR scanner computes from tissue classes: no gas, no couch, steps, uncertain edges of bone.

    Args:
        patient: who is scanned.
        bulk_hu: density of each class.
        bone_error: how far the threshold of bone strays from one half, which moves edges by up to a pixel.
        breathing_mm: over which the front wall is smeared.
    """
    rng = patient.rng("surrogate")
    classes = {"air": 0, "fat": 1, "spongy": 3, "compact": 4}
    shares = patient.shares({name: classes.get(name, 2) for name in TISSUES})
    z, y, x = (part[:, ::FINE, ::FINE] for part in _positions(patient))
    wander = Waves.draw(rng, 8, (30.0, 90.0)).value(x, y, z).clamp(-2, 2) / 2
    shift = rng.uniform(-0.4, 0.4)
    bone = F.avg_pool2d(shares[:, 3:].sum(1)[:, None], 3, stride=1, padding=1)[:, 0]
    is_bone = bone > 0.5 + bone_error * (0.6 * wander + shift)
    # What is left of a bone whose edge was moved inwards is taken for water.
    soft = torch.where(shares[:, :3].sum(1) > 0.2, shares[:, :3].argmax(1), 2)
    hard = 3 + (shares[:, 4] > shares[:, 3]).long()
    # Where bone is dilated over soft tissue it is its shell.
    hard = torch.where(shares[:, 3:].sum(1) > 0.05, hard, torch.full_like(hard, 4))
    table = torch.tensor([bulk_hu[name] for name in ("air", "fat", "water", "spongy", "compact")])
    hu = table[torch.where(is_bone, hard, soft)]
    taps = 2 * round(breathing_mm / patient.spacing_mm / 2) + 1
    if taps > 1:
        smeared = F.avg_pool2d(F.pad(hu[:, None], (0, 0, taps // 2, taps // 2), mode="replicate"), (taps, 1), stride=1)
        front = torch.sigmoid((-25.0 - 0.55 * patient.half_depth_mm - y) / 6.0)
        hu = torch.lerp(hu, smeared[:, 0], front)
    return hu.round()


def pelvis_ct(
    patient: PelvisPatient,
    *,
    couch: bool = True,
    views: int = 360,
    photons: float = 2e6,
) -> Tensor:  # (S, N, N) HU
    """A planning CT: texture, gas, a couch, and the noise and streaks of projections that were counted.

    Args:
        patient: who is scanned.
        couch: lay the patient on a couch.
        views: projections over half a turn.
        photons: mean count of an unattenuated ray.
    """
    rng = patient.rng("ct")
    hu = _painted(patient, _HU, rng)
    if couch:
        _add_couch(hu, patient, rng)
    size = patient.size
    bins = math.ceil(math.sqrt(2) * size) + 1
    angles = torch.arange(views, dtype=torch.float64) * math.pi / views
    pitch = patient.spacing_mm
    fine = CTGeometry.parallel2d(angles, bins, pitch, tuple(hu.shape[1:]), spacing_mm=pitch / FINE)
    coarse = CTGeometry.parallel2d(angles, bins, pitch, (size, size), spacing_mm=pitch)
    lines = ops.ct_forward((hu.clamp_min(-1000) / 1000 + 1)[:, None] * WATER_PER_MM, fine)
    measured = ops.poisson_noise(lines, photons, seed=int(rng.integers(2**31)))
    scan = (ops.fbp(measured, coarse, window="hann")[:, 0] / WATER_PER_MM - 1) * 1000
    return scan.clamp(-1024, 3071)


def _add_couch(hu: Tensor, patient: PelvisPatient, rng: np.random.Generator) -> None:
    """A curved board of carbon fibre around foam below the back."""
    _, y, x = (part[0] for part in _positions(patient))
    top = patient.half_depth_mm - 25.0 + rng.uniform(-4, 22)
    curve, thick, width = rng.uniform(0, 5e-4), rng.uniform(22, 40), rng.uniform(185, 260)
    fibre, foam = rng.uniform(-150, 100), rng.uniform(-960, -900)
    below = y - top + curve * x**2  # higher at the sides
    board = (below > 0) & (below < thick) & (x.abs() < width)
    core = (below > 7) & (below < thick - 7) & (x.abs() < width - 8)
    empty = patient.fine_tissues == 0
    hu[empty & board] = fibre
    hu[empty & core] = foam
