"""A left temporal bone in CT: inner ear, ear canal, middle ear, air cells, brain; landmarks known exactly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from medsynth_ext.phantoms.inner_ear_shapes import (
    LANDMARK_NAMES,
    cochlea_depth,
    inner_ear_depth,
    inner_ear_landmarks,
)
from medsynth_ext.phantoms.painter import Grid
from medsynth_ext.phantoms.posed_anatomy import PosedAnatomy, PoseRanges
from medsynth_ext.phantoms.posed_ct import PosedPhantom, check_in_view, lay, scanned
from medsynth_ext.phantoms.shapes import Waves, ellipsoid_depth, tube_depth

__all__ = ["inner_ear_phantom"]

AIR, CELL, FLUID, BRAIN, MUSCLE, BLOOD = -1000.0, -800.0, 80.0, 38.0, 55.0, 60.0
BONE, CAPSULE, OSSICLE = 1200.0, 1800.0, 1500.0
_CAPSULE_MM = 1.5
_EAR_MM = 13.0  # everything of the inner ear is nearer than this to the origin
_CELL_STREAM = 2

Region = tuple[slice, ...]


def inner_ear_phantom(
    seed: int,
    *,
    size: Sequence[int] = (96, 96, 96),
    spacing_mm: float = 0.5,
    ranges: PoseRanges | None = None,
    noise_hu: float = 40.0,
    gain: float = 0.03,
    blur_mm: tuple[float, float] = (0.2, 0.35),
    cells_per_ml: float = 45.0,
) -> PosedPhantom:
    """A temporal bone as a pure function of a seed.

    The mask is the cochlea with its modiolus, the landmarks are the modiolus' centre, the apex and the round window.

    Args:
        seed: addresses the subject.
        size: voxels along right, anterior, superior.
        spacing_mm: voxel size.
        ranges: how subjects differ in pose and shape.
        noise_hu: standard deviation of the noise.
        gain: largest relative error of the scanner's calibration.
        blur_mm: standard deviation of the resolution, smallest and largest.
        cells_per_ml: density of the mastoid's air cells.

    Raises:
        ValueError: when a landmark falls outside of the field of view.
    """
    rng = np.random.default_rng([seed, 1801])
    grid = Grid.centred(size, spacing_mm)
    posed = PosedAnatomy(grid, rng, PoseRanges() if ranges is None else ranges)
    landmarks = posed.carry(inner_ear_landmarks())
    check_in_view(landmarks, LANDMARK_NAMES, grid, seed)
    points = posed.points()
    near = points.square().sum(0) < _EAR_MM**2
    ear = [p[near] for p in points]
    duct, cochlea = cochlea_depth(*ear)
    fluid = inner_ear_depth(ear[0], ear[1], ear[2], duct)
    image = _surroundings(posed, points, seed, rng, cells_per_ml)
    image[near] = _ear(image[near], fluid, posed.voxel_mm)
    mask = torch.zeros(grid.shape, dtype=torch.uint8)
    mask[near] = (cochlea > 0).to(torch.uint8)
    image = scanned(image, rng, seed=seed, spacing_mm=spacing_mm, blur_mm=blur_mm, gain=gain, noise_hu=noise_hu)
    return PosedPhantom(image, mask, landmarks, LANDMARK_NAMES, grid, posed.rotation)


def _ear(image: Tensor, fluid: Tensor, voxel_mm: float) -> Tensor:
    """The capsule and the fluid in it."""
    return lay(lay(image, fluid + _CAPSULE_MM, CAPSULE, voxel_mm), fluid, FLUID, voxel_mm)


def _surroundings(
    posed: PosedAnatomy, points: Tensor, seed: int, rng: np.random.Generator, cells_per_ml: float
) -> Tensor:
    """What lies around the inner ear; left is negative x."""
    voxel = posed.voxel_mm
    x, y, z = points
    texture = Waves.draw(rng, 14, (3.0, 14.0)).value(x, y, z)
    image = BONE + 110 * texture
    for region, depth in _air_cells(posed, points, seed, cells_per_ml):
        image[region] = lay(image[region], depth, CELL, voxel)
    wave = Waves.draw(rng, 6, (18.0, 50.0)).value(x, y, z)
    cavity = ellipsoid_depth(x, y, z, centre=(-6.8, 4.2, -1.0), radii=(2.4, 4.2, 6.0), yaw_deg=-25.0)
    image = lay(image, cavity, AIR, voxel)
    canal = tube_depth(x, y, z, nodes=[(-9.0, 3.4, -2.0, 3.4), (-19.0, 1.0, -2.6, 3.6), (-45.0, -3.0, -1.0, 4.6)])
    image = lay(image, canal, AIR, voxel)
    for nodes in (  # hammer and anvil
        [(-8.6, 4.2, 2.2, 1.1), (-8.7, 4.6, 0.2, 0.5), (-8.9, 4.2, -2.2, 0.4)],
        [(-8.3, 2.4, 2.0, 1.0), (-7.6, 2.6, -0.2, 0.4), (-6.6, 2.8, -1.4, 0.35)],
    ):
        image = lay(image, tube_depth(x, y, z, nodes=nodes), OSSICLE, voxel)
    meatus = tube_depth(x, y, z, nodes=[(2.6, -3.6, 1.6, 1.6), (8.0, -7.0, 2.0, 2.4), (14.0, -10.0, 2.0, 3.4)])
    image = lay(image, meatus, FLUID - 40, voxel)
    carotid = tube_depth(x, y, z, nodes=[(-1.5, 9.0, -22.0, 2.6), (-0.5, 9.5, -8.0, 2.6), (9.0, 12.5, -5.0, 2.6)])
    image = lay(image, carotid, BLOOD, voxel)
    brain = torch.maximum(0.62 * x - 0.7 * y + 0.2 * z - 13.5, z + 0.15 * x - 11.5)
    image = lay(image, brain + 1.2 * wave, BRAIN, voxel)
    sinus = tube_depth(x, y, z, nodes=[(-10.0, -21.0, 30.0, 4.5), (-9.0, -18.5, 0.0, 5.0), (-3.0, -10.0, -16.0, 4.5)])
    image = lay(image, sinus, BLOOD, voxel)
    image = lay(image, -z - 16.5 + 1.5 * wave, MUSCLE, voxel)
    return lay(image, -x - 30.0 + 1.5 * wave, AIR, voxel)


def _air_cells(posed: PosedAnatomy, points: Tensor, seed: int, cells_per_ml: float) -> Iterator[tuple[Region, Tensor]]:
    """Regions of the grid and depths in them of spheres, placed at random in the mastoid behind and beside the ear."""
    rng = np.random.default_rng([seed, 1801, _CELL_STREAM])
    low, high = np.array((-28.0, -26.0, -16.0)), np.array((-3.0, 4.0, 12.0))
    count = rng.poisson(cells_per_ml * float((high - low).prod()) / 1000)
    centres = torch.from_numpy(rng.uniform(low, high, (count, 3))).float()
    radii = rng.gamma(6.0, 0.2, count).clip(0.5, 2.6)
    x, y, z = centres.T
    clear = -inner_ear_depth(x, y, z, cochlea_depth(x, y, z)[0])
    for centre, radius, room in zip(centres, radii, clear, strict=True):
        region = posed.box(centre, radius + 1.0)
        if float(room) < radius + _CAPSULE_MM or region is None:
            continue
        place = (slice(None), *region)
        squares = (points[place] - centre.view(3, 1, 1, 1)).square().sum(0)
        yield region, float(radius) - squares.sqrt_()
