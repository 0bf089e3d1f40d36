"""A left hip in CT: thigh bone, socket, muscle, fat and skin; landmarks known exactly."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from medsynth_ext.phantoms.painter import Grid
from medsynth_ext.phantoms.pelvis_xray_femur import HEAD_MM, Femur, draw_femur
from medsynth_ext.phantoms.posed_anatomy import PosedAnatomy, PoseRanges
from medsynth_ext.phantoms.posed_ct import PosedPhantom, check_in_view, lay, scanned
from medsynth_ext.phantoms.shapes import Waves, smooth_max, tube_depth

__all__ = ["HIP_LANDMARKS", "hip_phantom", "hip_ranges"]

HIP_LANDMARKS = ("head", "greater_trochanter", "lesser_trochanter")
AIR, FAT, MUSCLE, SPONGE, CORTEX = -1000.0, -95.0, 55.0, 260.0, 1350.0
_TO_RAS = np.diag((-1.0, -1.0, 1.0))  # the pelvis is drawn along left, posterior, superior
_MIDDLE = np.array((20.0, 2.0, 22.0))  # the head's centre, seen from the middle of what is above the shaft
_JOINT_MM, _ROOF_MM = 3.5, 9.0


def hip_phantom(
    seed: int,
    *,
    size: Sequence[int] = (80, 80, 80),
    spacing_mm: float = 2.0,
    ranges: PoseRanges | None = None,
    noise_hu: float = 40.0,
    gain: float = 0.03,
    blur_mm: tuple[float, float] = (0.7, 1.2),
) -> PosedPhantom:
    """A hip as a pure function of a seed.

    The mask is the thigh bone above its lesser trochanter; the landmarks are the head's centre, the upper tip of the
    greater trochanter and the medial tip of the lesser one. The bone has proportions of its own in every subject.

    Args:
        seed: addresses the subject.
        size: voxels along right, anterior, superior.
        spacing_mm: voxel size.
        ranges: how subjects differ in pose and shape.
        noise_hu: standard deviation of the noise.
        gain: largest relative error of the scanner's calibration.
        blur_mm: standard deviation of the resolution, smallest and largest.

    Raises:
        ValueError: when a landmark falls outside of the field of view.
    """
    rng = np.random.default_rng([seed, 1802])
    grid = Grid.centred(size, spacing_mm)
    posed = PosedAnatomy(grid, rng, hip_ranges() if ranges is None else ranges)
    drawn = draw_femur(rng, neck_deg=float(rng.normal(127, 4)), implant=False)
    femur = drawn.moved(_TO_RAS, _MIDDLE)
    landmarks = posed.carry(torch.from_numpy(drawn.landmarks @ _TO_RAS + _MIDDLE))
    check_in_view(landmarks, HIP_LANDMARKS, grid, seed)
    points = posed.points()
    voxel = posed.voxel_mm
    outer, inner = _femur_depths(femur, points)
    image = _surroundings(points, rng, voxel)
    sponge = SPONGE + 60.0 * Waves.draw(rng, 10, (6.0, 20.0)).value(*points)
    image = lay(lay(image, outer, CORTEX, voxel), inner, sponge, voxel)
    above = points[2] > float(femur.small.centre[2] + femur.small.radii[2])
    mask = ((outer > 0) & above).to(torch.uint8)
    image = scanned(image, rng, seed=seed, spacing_mm=spacing_mm, blur_mm=blur_mm, gain=gain, noise_hu=noise_hu)
    return PosedPhantom(image, mask, landmarks, HIP_LANDMARKS, grid, posed.rotation)


def hip_ranges() -> PoseRanges:
    """How hips differ: twice to four times as far as the parts of an ear."""
    return PoseRanges(translation_mm=15.0, deformation_mm=2.5, wavelength_mm=(80.0, 200.0))


def _femur_depths(femur: Femur, points: Tensor) -> tuple[Tensor, Tensor]:
    """Depth below the surface of the cortex, with its creases filled, and below that of the marrow."""
    depths = [part.depths(*points) for part in (femur.head, *femur.parts)]
    return (
        reduce(lambda a, b: smooth_max(a, b, 3.0), [outer for outer, _ in depths]),
        reduce(torch.maximum, [inner for _, inner in depths]),
    )


def _surroundings(points: Tensor, rng: np.random.Generator, voxel_mm: float) -> Tensor:
    """All but the thigh bone; left is negative x."""
    x, y, z = points
    image = torch.full_like(x, MUSCLE)
    planes = Waves.draw(rng, 10, (25.0, 60.0)).value(x, y, z)
    image = lay(image, 3.0 - 14.0 * planes.abs(), FAT, voxel_mm)  # between the muscles
    wave = Waves.draw(rng, 6, (60.0, 140.0)).value(x, y, z)
    depth = -x - 52.0 + 2.0 * wave
    image = lay(lay(image, depth, FAT, voxel_mm), depth - 16.0, AIR, voxel_mm)
    a, b, c = (v - float(m) for v, m in zip((x, y, z), _MIDDLE, strict=True))
    distance = (a * a + b * b + c * c).sqrt_()
    roof = 0.62 * a - 0.3 * b + 0.72 * c  # the socket opens to the side, forward and down
    half = torch.minimum(torch.minimum(distance - HEAD_MM - _JOINT_MM, HEAD_MM + _JOINT_MM + _ROOF_MM - distance), roof)
    bones = [half]
    for nodes in (  # ilium, ischium, pubis
        [(30.0, -4.0, 52.0, 13.0), (34.0, -18.0, 74.0, 11.0), (40.0, -34.0, 96.0, 14.0)],
        [(52.0, -18.0, 12.0, 12.0), (48.0, -30.0, -24.0, 13.0), (44.0, -36.0, -52.0, 14.0)],
        [(50.0, 16.0, 16.0, 10.0), (70.0, 34.0, 6.0, 8.0), (96.0, 48.0, -2.0, 10.0)],
    ):
        bones.append(tube_depth(x, y, z, nodes=nodes))
    bone = reduce(lambda u, v: smooth_max(u, v, 4.0), bones)
    bone = torch.minimum(bone, distance - HEAD_MM - _JOINT_MM)
    return lay(lay(image, bone, CORTEX, voxel_mm), bone - 2.0, SPONGE, voxel_mm)
