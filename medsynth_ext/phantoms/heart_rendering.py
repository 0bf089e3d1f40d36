"""The whole-heart phantom as scanners show it: CT through our own cone beam, MR through signal equations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from medsynth_ext import ops
from medsynth_ext.ops import CTGeometry
from medsynth_ext.phantoms.painter import Grid
from medsynth_ext.phantoms.rendering import coil_sensitivity
from medsynth_ext.phantoms.whole_heart import WholeHeartPhantom

__all__ = ["HEART_HOUNSFIELD", "MR_SEQUENCES", "SENSORS", "CTSensor", "render_heart_ct", "render_heart_mr"]

# Hounsfield units of the chest in an arterial phase, without the blood; textures are relative. Typical values.
HEART_HOUNSFIELD: Mapping[str, float] = {
    "air": -1000.0,
    "skin": 10.0,
    "fat": -100.0,
    "heart_fat": -85.0,
    "mediastinal_fat": -80.0,
    "muscle": 55.0,
    "myocardium": 110.0,
    "wall": 85.0,
    "lung": -850.0,
    "lung_texture": 0.04,
    "liver": 85.0,
    "spleen": 115.0,
    "organ_texture": 0.03,
    "mixing": 0.07,
    "stomach": 25.0,
    "bone": 620.0,
    "marrow": 190.0,
    "cartilage": 110.0,
    "disc": 85.0,
    "fluid": 10.0,
    "cord": 35.0,
}

# Proton density (water = 1), T1 and T2 in ms: typical values of the order that is reported at 1.5 T, chosen for
# plausible contrast and not taken from any one table.
HEART_RELAXATION: Mapping[str, tuple[float, float, float]] = {
    "air": (0.0, 1000.0, 50.0),
    "skin": (0.6, 700.0, 35.0),
    "fat": (0.95, 290.0, 75.0),
    "heart_fat": (0.90, 300.0, 70.0),
    "mediastinal_fat": (0.85, 320.0, 70.0),
    "muscle": (0.80, 950.0, 42.0),
    "myocardium": (0.82, 1000.0, 50.0),
    "wall": (0.82, 1000.0, 50.0),
    "lung": (0.12, 1100.0, 35.0),
    "liver": (0.78, 590.0, 46.0),
    "spleen": (0.85, 1050.0, 70.0),
    "stomach": (0.85, 1200.0, 110.0),
    "bone": (0.10, 400.0, 2.0),
    "marrow": (0.65, 550.0, 50.0),
    "cartilage": (0.60, 1000.0, 40.0),
    "disc": (0.75, 1100.0, 80.0),
    "fluid": (1.0, 4000.0, 1500.0),
    "cord": (0.75, 900.0, 78.0),
    "blood_left": (0.95, 1500.0, 230.0),
    "blood_right": (0.95, 1550.0, 150.0),
    "blood_pulmonary": (0.95, 1550.0, 150.0),
    "blood_mixed": (0.95, 1550.0, 130.0),
    "cava": (0.95, 1550.0, 130.0),
}


@dataclass(frozen=True)
class CTSensor:
    """A scanner and its contrast timing.

    Args:
        left_hu: blood of the left heart, the aorta and the pulmonary veins.
        right_hu: blood of the right heart and the pulmonary artery.
        noise_hu: standard deviation of the noise in the heart.
        blur_voxels: full width at half maximum of the reconstruction's blur.
        views: projections over a turn; few of them make streaks.
        rings: standard deviation of the detector's gain errors, in line integrals; they make rings.
    """

    left_hu: float
    right_hu: float
    noise_hu: float
    blur_voxels: float
    views: int = 360
    rings: float = 0.0


SENSORS: Mapping[str, CTSensor] = {
    "A": CTSensor(left_hu=400.0, right_hu=300.0, noise_hu=20.0, blur_voxels=1.0),
    "B": CTSensor(left_hu=320.0, right_hu=380.0, noise_hu=30.0, blur_voxels=1.8, rings=0.006),
    "C": CTSensor(left_hu=250.0, right_hu=250.0, noise_hu=45.0, blur_voxels=2.5, views=120),
}
SOURCE_ORIGIN_MM, SOURCE_DETECTOR_MM = 750.0, 1200.0
WATER_PER_MM = 0.0193  # near 70 keV
PHOTONS = 1e5
BODY_MM = ((-170.0, -150.0), (196.0, 102.0))  # corners of the chest of an average person, right and anterior
BODY_RADIUS_MM = 200.0  # and its farthest point from the heart's centre


def ct_table(sensor: CTSensor) -> dict[str, float]:
    """Hounsfield units of every tissue under a sensor's contrast."""
    blood = {"blood_left": sensor.left_hu, "blood_right": sensor.right_hu}
    blood["blood_pulmonary"] = 0.5 * (sensor.left_hu + sensor.right_hu) * 0.95
    blood["blood_mixed"] = 45 + 0.35 * sensor.right_hu
    blood["cava"] = 1.25 * sensor.right_hu
    return {**HEART_HOUNSFIELD, **blood}


@torch.no_grad()
def render_heart_ct(phantom: WholeHeartPhantom, sensor: str | CTSensor = "A", *, seed: int = 0) -> MetaTensor:
    """A CT of the field of view: cone beam, counting noise, filtered back-projection (FDK).

    The whole width of the chest is projected. Counting noise is brought to ``noise_hu`` inside the heart, as a dose
    would be chosen.

    Args:
        phantom: the person.
        sensor: key of ``SENSORS`` or a sensor.
        seed: of the noise.

    Returns:
        (1, N, N, N) float32 in HU, in the axes of the phantom.

    Raises:
        ValueError: for another name, or voxels so large that none lies in the heart.
    """
    if isinstance(sensor, str):
        if sensor not in SENSORS:
            raise ValueError(f"sensor must be one of {', '.join(SENSORS)}, got {sensor!r}")
        sensor = SENSORS[sensor]
    grid, h = phantom.grid, phantom.grid.spacing_mm
    body, geometry = _scan(phantom, sensor.views)
    attenuation = (phantom.paint(ct_table(sensor), body).clamp_min_(-1000) / 1000 + 1) * WATER_PER_MM
    centre = tuple(f + (n - 1) / 2 * h for f, n in zip(body.first_mm, body.shape, strict=True))
    rays = replace(geometry, vol_shape=body.shape[::-1], center_mm=centre)
    clean = ops.ct_forward(attenuation.permute(2, 1, 0).contiguous(), rays)  # (views, rows, cols)
    noise = ops.poisson_noise(clean[None, None], PHOTONS, seed=seed)[0, 0] - clean
    if sensor.rings > 0:
        generator = torch.Generator().manual_seed(seed)
        gain = sensor.rings * torch.randn(geometry.det_shape[1], generator=generator)
        clean = clean + gain
    sigma = sensor.blur_voxels / math.sqrt(8 * math.log(2))
    pictures = ops.fdk(torch.stack([clean, noise])[:, None], geometry, pad_rows=2)
    pictures = ops.gaussian_blur(pictures, sigma).permute(0, 1, 4, 3, 2) * (1000 / WATER_PER_MM)  # (2, 1, N, N, N)
    inside = phantom.labels > 0
    if not bool(inside.any()):
        raise ValueError(f"no voxel of {h:g} mm lies in the heart, whose noise is wanted; use smaller voxels")
    image = pictures[0] - 1000 + pictures[1] * (sensor.noise_hu / pictures[1, 0][inside].std())
    return MetaTensor(image.clamp_(-1024, 3071).contiguous(), affine=grid.affine)


def _scan(phantom: WholeHeartPhantom, views: int) -> tuple[Grid, CTGeometry]:
    """The grid that holds all that rays through the field of view meet, and the scan that reconstructs the latter."""
    grid, h, person = phantom.grid, phantom.grid.spacing_mm, phantom.parameters.person
    half = phantom.fov_mm / 2
    widest = max(BODY_RADIUS_MM * person, half * math.sqrt(2))
    reach = widest * SOURCE_ORIGIN_MM / math.sqrt(SOURCE_ORIGIN_MM**2 - widest**2)  # of the fan, on the axis
    high = half * SOURCE_ORIGIN_MM / (SOURCE_ORIGIN_MM - half * math.sqrt(2))  # of the cone, on the axis
    z = high * (SOURCE_ORIGIN_MM + widest) / SOURCE_ORIGIN_MM
    low_mm = [min(BODY_MM[0][0] * person, -half), min(BODY_MM[0][1] * person, -half), -z]
    high_mm = [max(BODY_MM[1][0] * person, half), max(BODY_MM[1][1] * person, half), z]
    low = [max(0, math.ceil((-half - a) / h)) for a in low_mm]
    up = [max(0, math.ceil((b - half) / h)) for b in high_mm]
    det_shape = (2 * math.ceil(high / h), 2 * math.ceil(reach / h))
    pitch = h * SOURCE_DETECTOR_MM / SOURCE_ORIGIN_MM
    angles = torch.arange(views, dtype=torch.float64) * 2 * math.pi / views
    geometry = CTGeometry.cone3d(
        angles, det_shape, pitch, grid.shape[::-1], source_origin_mm=SOURCE_ORIGIN_MM,
        source_detector_mm=SOURCE_DETECTOR_MM, spacing_mm=h,
    )  # fmt: skip
    return grid.grown(low, up), geometry


_MR_TEXTURES = {"lung_texture": 0.2, "organ_texture": 0.05, "mixing": 0.04}


@dataclass(frozen=True)
class MRSequence:
    """A gradient echo.

    Args:
        repetition_ms: time between pulses.
        echo_ms: time from pulse to echo.
        flip_deg: angle of the pulses.
        balanced: balanced steady state, else spoiled.
        fat: what an incomplete suppression leaves of the fat.
        agent_t1_ms: T1 of blood with a contrast agent.
    """

    repetition_ms: float
    echo_ms: float
    flip_deg: float
    balanced: bool
    fat: float = 1.0
    agent_t1_ms: float | None = None

    def table(self) -> dict[str, float]:
        """Signal of every tissue, that of left ventricular blood being 1."""
        out = {}
        sine, cosine = math.sin(math.radians(self.flip_deg)), math.cos(math.radians(self.flip_deg))
        for tissue, (density, t1, t2) in HEART_RELAXATION.items():
            if self.agent_t1_ms is not None and (tissue.startswith("blood") or tissue == "cava"):
                t1 = self.agent_t1_ms
            e1, e2 = math.exp(-self.repetition_ms / t1), math.exp(-self.repetition_ms / t2)
            below = 1 - (e1 - e2) * cosine - e1 * e2 if self.balanced else 1 - e1 * cosine
            density *= self.fat if tissue.endswith("fat") else 1.0
            out[tissue] = density * sine * (1 - e1) / below * math.exp(-self.echo_ms / t2)
        scale = 1 / out["blood_left"]
        return {**{name: value * scale for name, value in out.items()}, **_MR_TEXTURES}


MR_SEQUENCES: Mapping[str, MRSequence] = {
    "bssfp": MRSequence(3.4, 1.7, 65.0, balanced=True, fat=0.5),
    "angiography": MRSequence(4.0, 1.4, 18.0, balanced=False, fat=0.6, agent_t1_ms=250.0),
}
MR_BLOOD_LEVEL = 400.0


@torch.no_grad()
def render_heart_mr(
    phantom: WholeHeartPhantom,
    sequence: str = "bssfp",
    *,
    seed: int = 0,
    noise: float = 0.04,
    bias: float = 1.0,
    blur_voxels: float = 1.2,
    variation: float = 0.08,
) -> MetaTensor:
    """An MR image of the field of view.

    Args:
        phantom: the person.
        sequence: key of ``MR_SEQUENCES``.
        seed: of tissue variation, coils and noise.
        noise: standard deviation in each of the two channels, as a share of the signal of left ventricular blood.
        bias: power of the coils' sensitivity; 0 for none.
        blur_voxels: full width at half maximum.
        variation: relative standard deviation of every tissue's signal over persons.

    Returns:
        (1, N, N, N) float32, blood of the left ventricle near 400.

    Raises:
        ValueError: for another sequence.
    """
    if sequence not in MR_SEQUENCES:
        raise ValueError(f"sequence must be one of {', '.join(MR_SEQUENCES)}, got {sequence!r}")
    rng = np.random.default_rng([seed, 401])
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    table = MR_SEQUENCES[sequence].table()
    table = {name: value * float(np.exp(variation * rng.standard_normal())) for name, value in table.items()}
    signal = phantom.paint(table)
    if bias > 0:
        centre = [(a / phantom.parameters.person) for a in phantom.grid.axes()]
        signal = signal * coil_sensitivity(centre, rng) ** bias
    signal = ops.gaussian_blur(signal[None, None], blur_voxels / math.sqrt(8 * math.log(2)))[0]
    real = signal + noise * torch.randn(signal.shape, generator=generator)
    imaginary = noise * torch.randn(signal.shape, generator=generator)
    image: Tensor = (real**2 + imaginary**2).sqrt() * MR_BLOOD_LEVEL
    return MetaTensor(image.contiguous(), affine=phantom.affine)
