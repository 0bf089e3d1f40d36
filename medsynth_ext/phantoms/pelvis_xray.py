"""Pelvis radiographs with 16 exact landmarks: bones, muscle, fat and bowel gas, projected from a point source."""

from __future__ import annotations

import math

import numpy as np
import torch

from medsynth_ext.phantoms.bone_tubes import BoneKnob, BoneTube, BoneUnion, lay_shell
from medsynth_ext.phantoms.painter import Grid, Painter
from medsynth_ext.phantoms.pelvis_xray_anatomy import NAMES, SOCKET_COSINE, HalfPelvis, PelvisSkeleton, draw_pelvis
from medsynth_ext.phantoms.pelvis_xray_femur import Femur
from medsynth_ext.phantoms.shapes import Waves, ellipsoid_depth
from medsynth_ext.phantoms.thorax import superellipse_depth
from medsynth_ext.phantoms.xray_film import METAL_PER_MM, Exposure, Film, XrayPhantom, take_radiograph

__all__ = ["pelvis_xray"]

FOV_MM = 440.0
SOURCE_MM, BEHIND_MM = 1150.0, 150.0
PER_MM = {"air": 0.0, "fat": 0.0185, "muscle": 0.0212, "cortex": 0.062, "marrow": 0.0285}  # near 55 keV


@torch.no_grad()
def pelvis_xray(
    seed: int,
    *,
    size: int = 512,
    fracture_prob: float = 0.0,
    implant_prob: float = 0.05,
    nuisances: bool = True,
    voxel_mm: float | None = None,
) -> XrayPhantom:
    """Draw the radiograph of a pelvis from the front, a pure function of its arguments.

    The landmarks are, for the left side and then for the right: anterior superior iliac spine, top of the crest,
    lateral rim of the socket, lowest point of the ischial tuberosity, upper corner of the pubic body at the symphysis,
    centre of the femoral head, tip of the greater and of the lesser trochanter. The patient's left is on the right.

    Args:
        seed: addresses the person and the exposure.
        size: pixels per side; the field of view is 440 mm on the detector.
        fracture_prob: probability that one side is deformed; 0.2 makes the unlabelled and test sets of the landmark
            bundle harder than its labelled ones.
        implant_prob: probability of an artificial hip.
        nuisances: ``False`` leaves out scatter, noise, collimation, marker and the display's freedom.
        voxel_mm: voxels of the anatomy; those of a pixel, but not below 1.2 mm, by default.

    Raises:
        ValueError: for a size below 8 pixels.

    >>> pelvis = pelvis_xray(0, size=64)
    >>> pelvis.image.shape, pelvis.points.shape
    (torch.Size([1, 64, 64]), torch.Size([16, 2]))
    """
    rng = np.random.default_rng([seed, 1602])
    skeleton = draw_pelvis(rng, fracture_prob=fracture_prob, implant_prob=implant_prob)
    film = Film(size, FOV_MM, source_detector_mm=SOURCE_MM, behind_mm=BEHIND_MM)
    voxel = voxel_mm or max(1.2, film.spacing_mm * film.scale)
    # Rays add up: smooth flesh is drawn on coarse voxels, and what bone has more than muscle on fine ones.
    coarse, fine = _grid(max(4.0, voxel), (-125.0, 125.0)), _grid(voxel, (-85.0, 120.0))
    flesh = Painter(coarse, PER_MM, background="air")
    _flesh(flesh, rng, skeleton)
    bones = Painter(fine, {"muscle": 0.0}, background="muscle")
    _bones(bones, rng, skeleton)
    integrals = film.line_integrals(flesh.values, coarse) + film.line_integrals(bones.values, fine)
    exposure = Exposure(photons=(2e5, 2e6), flatten=(0.45, 0.8), letter="R" if seed % 2 else "L")
    return take_radiograph(
        integrals, skeleton.landmarks, NAMES, seed, film=film, exposure=exposure, nuisances=nuisances
    )


def _grid(voxel_mm: float, depth_mm: tuple[float, float]) -> Grid:
    """All that the rays can meet between two planes before and behind the origin."""
    wide, deep = math.ceil(0.985 * FOV_MM / voxel_mm), math.ceil((depth_mm[1] - depth_mm[0]) / voxel_mm)
    return Grid((-(wide - 1) / 2 * voxel_mm, depth_mm[0], -(wide - 1) / 2 * voxel_mm), (wide, deep, wide), voxel_mm)


def _flesh(painter: Painter, rng: np.random.Generator, skeleton: PelvisSkeleton) -> None:
    """Skin to muscle, the thighs, gas in the bowel."""
    x, y, z = painter.points
    hips = [half.hip for half in skeleton.halves]
    middle = 0.5 * (hips[0] + hips[1])
    wide, deep = 0.5 * float(np.linalg.norm(hips[0] - hips[1])) + rng.uniform(82, 108), rng.uniform(88, 112)
    u, v = x[:, :, :1] - float(middle[0]), y[:, :, :1] - 8.0
    height = (painter.axes[2] - float(middle[2])).view(1, 1, -1)
    waist = torch.exp(-(((height - 150) / 90) ** 2))
    broad, narrow = (superellipse_depth(u, v, a * wide, b * deep, 2.4) for a, b in ((1.0, 1.0), (0.84, 0.9)))
    body = torch.lerp(broad, narrow, waist)
    crotch = rng.uniform(78, 95)
    between = torch.where(height < -crotch, 26 * (-(height + crotch) / 60).clamp(0, 1), torch.tensor(-1e3))
    thighs = u.abs() - between
    painter.lay(torch.minimum(body, thighs), "fat")
    texture = Waves.draw(rng, 10, (40.0, 120.0)).value(x[:, :1, :], 0 * z[:, :1, :], z[:, :1, :])
    painter.lay(torch.minimum(body - (rng.uniform(12, 30) + 2 * texture), thighs - 8), "muscle")
    for _ in range(int(rng.integers(3, 14))):
        place = middle + np.array([rng.normal(0, 62), rng.uniform(-50, 0), rng.uniform(25, 200)])
        _ellipsoid(painter, place, rng.uniform(5, 17, 3) * (1, 1, rng.uniform(0.6, 1.8)), float(rng.uniform(0, 0.008)))
    rectum = middle + np.array([rng.normal(0, 6), 35.0, rng.uniform(0, 30)])
    _ellipsoid(painter, rectum, rng.uniform(5, 15, 3), 0.004)


def _ellipsoid(painter: Painter, centre: np.ndarray, radii: np.ndarray, value: float) -> None:
    """An upright ellipsoid of one value."""
    region = painter.box((centre - radii).tolist(), (centre + radii).tolist())
    if region is not None:
        x, y, z = (p[region] for p in painter.points)
        depth = ellipsoid_depth(x, y, z, centre=centre.tolist(), radii=radii.tolist())
        painter.lay(depth, value, region=region)


def _bones(painter: Painter, rng: np.random.Generator, skeleton: PelvisSkeleton) -> None:
    density = rng.uniform(0.85, 1.2)
    cortex, marrow = (density * PER_MM[name] - PER_MM["muscle"] for name in ("cortex", "marrow"))
    for bone in skeleton.spine:
        BoneUnion(painter, bone).lay(cortex, marrow)
    for centre, half in skeleton.vertebrae:
        _vertebra(painter, centre, half, cortex, marrow)
    for hole in skeleton.holes:
        _ellipsoid(painter, hole.centre, hole.radii, PER_MM["fat"] - PER_MM["muscle"])
    for pelvis in skeleton.halves:
        BoneUnion(painter, pelvis.parts, smooth_mm=8.0).lay(cortex, marrow)
        _socket(painter, pelvis, cortex, marrow)
    for femur in skeleton.femurs:
        if femur.implant:
            BoneUnion(painter, femur.parts).lay(cortex, marrow)
            _implant(painter, femur)
        else:
            BoneUnion(painter, [femur.head, *femur.parts]).lay(cortex, marrow)


def _vertebra(painter: Painter, centre: np.ndarray, half: np.ndarray, cortex: float, marrow: float) -> None:
    """A body with a waist and hard end plates."""
    region = painter.box((centre - 1.15 * half).tolist(), (centre + 1.15 * half).tolist())
    if region is None:
        return
    x, y, z = (p[region] - float(c) for p, c in zip(painter.points, centre, strict=True))
    high = z / float(half[2])
    wall = superellipse_depth(x, y, float(half[0]) * (1 + 0.09 * high * high), float(half[1]), 2.4)
    depth = torch.minimum(wall, float(half[2]) - z.abs())
    lay_shell(painter, depth, depth - 1.2, cortex, marrow, region=region)


def _socket(painter: Painter, pelvis: HalfPelvis, cortex: float, marrow: float) -> None:
    """A cup around the head, thick in its roof, with a joint space of 3 mm."""
    inner = pelvis.socket_mm
    region = painter.box((pelvis.hip - inner - 8).tolist(), (pelvis.hip + inner + 8).tolist())
    if region is None:
        return
    x, y, z = (p[region] - float(c) for p, c in zip(painter.points, pelvis.hip, strict=True))
    far = (x * x + y * y + z * z).sqrt()
    into = x * float(pelvis.roof[0]) + y * float(pelvis.roof[1]) + z * float(pelvis.roof[2])
    edge = into / far.clamp_min(1e-6) - SOCKET_COSINE  # 0 at the rim of the socket
    thick = 2.0 + 5.0 * edge.clamp_min(0)
    painter.lay(inner - far, "muscle", region=region)
    cup = torch.minimum(torch.minimum(inner + thick - far, far - inner), edge * inner)
    lay_shell(painter, cup, torch.minimum(cup - 1.0, far - inner - 1.6), cortex, marrow, region=region)


def _implant(painter: Painter, femur: Femur) -> None:
    """A metal ball, and a stem down the shaft."""
    ball = BoneKnob(femur.head.centre, 0.62 * femur.head.radii, 0.0)
    shaft = femur.shaft.rows
    rows = [(*ball.centre, 6.5), (*(shaft[0, :3] - (0, 0, 4)), 8.0), (*shaft[1, :3], 8.5)]
    stem = BoneTube.of([*rows, (*(0.35 * shaft[3, :3] + 0.65 * shaft[2, :3]), 5.0)])
    union = BoneUnion(painter, [ball, stem], smooth_mm=1.0)
    union.lay(METAL_PER_MM, METAL_PER_MM)
