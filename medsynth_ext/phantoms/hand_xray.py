"""Hand radiographs with 25 exact landmarks: a posed three-dimensional hand, projected, exposed and displayed."""

from __future__ import annotations

import math

import numpy as np
import torch

from medsynth_ext.phantoms.bone_tubes import lay_bone, lay_shell
from medsynth_ext.phantoms.hand_xray_anatomy import NAMES, HandSkeleton, draw_hand
from medsynth_ext.phantoms.painter import Grid, Painter
from medsynth_ext.phantoms.shapes import Waves, ellipsoid_depth
from medsynth_ext.phantoms.xray_film import METAL_PER_MM, Exposure, Film, XrayPhantom, take_radiograph

__all__ = ["hand_xray"]

FOV_MM = 250.0
PER_MM = {"air": 0.0, "flesh": 0.024, "cortex": 0.085, "marrow": 0.034}  # near 40 keV


@torch.no_grad()
def hand_xray(
    seed: int, *, size: int = 512, implant_prob: float = 0.08, nuisances: bool = True, voxel_mm: float | None = None
) -> XrayPhantom:
    """Draw the radiograph of a left hand, a pure function of its arguments.

    The landmarks are the joints in front of the 19 long bones, the 5 tips of the last phalanges and the wrist, the same
    anatomical places at every ``size``.

    Args:
        seed: addresses the person and the exposure.
        size: pixels per side; the field of view is 250 mm.
        implant_prob: probability of a ring; of a wire in a metacarpal it is half of that.
        nuisances: ``False`` leaves out scatter, noise, collimation, marker and the display's freedom.
        voxel_mm: voxels of the anatomy; three quarters of a pixel, but not below 0.6 mm, by default.

    Raises:
        ValueError: for a size below 8 pixels.

    >>> hand = hand_xray(0, size=64)
    >>> hand.image.shape, hand.points.shape
    (torch.Size([1, 64, 64]), torch.Size([25, 2]))
    """
    rng = np.random.default_rng([seed, 1601])
    skeleton = draw_hand(rng, implant_prob=implant_prob)
    film = Film(size, FOV_MM)
    painter, grid = _paint(skeleton, rng, voxel_mm or max(0.6, 0.75 * film.spacing_mm))
    integrals = film.line_integrals(painter.values, grid)
    exposure = Exposure(photons=(3e3, 1e5), flatten=(0.0, 0.35), letter="L", sided=False)
    return take_radiograph(integrals, skeleton.places, NAMES, seed, film=film, exposure=exposure, nuisances=nuisances)


def _paint(skeleton: HandSkeleton, rng: np.random.Generator, voxel_mm: float) -> tuple[Painter, Grid]:
    depths = [row[1] + s * row[3] for tube in skeleton.flesh for row in tube.rows for s in (-1, 1)]
    low, high = min(depths) - voxel_mm, max(depths) + voxel_mm
    wide, deep = math.ceil(FOV_MM / voxel_mm) + 2, math.ceil((high - low) / voxel_mm) + 1
    first = -(wide - 1) / 2 * voxel_mm
    grid = Grid((first, low, first), (wide, deep, wide), voxel_mm)
    painter = Painter(grid, PER_MM, background="air")
    for tube in skeleton.flesh:
        lay_bone(painter, tube, PER_MM["flesh"])
    density = rng.uniform(0.8, 1.15)
    cortex, marrow = density * PER_MM["cortex"], density * PER_MM["marrow"]
    for bone in skeleton.bones:
        lay_bone(painter, bone, cortex, marrow)
    grain = Waves.draw(rng, 14, (2.5, 12.0))
    for centre, radii, turn in skeleton.carpals:
        _carpal(painter, centre, radii, turn, cortex, marrow, grain)
    if skeleton.ring is not None:
        _ring(painter, *skeleton.ring)
    for wire in skeleton.wires:
        lay_bone(painter, wire, METAL_PER_MM)
    return painter, grid


def _carpal(
    painter: Painter,
    centre: np.ndarray,
    radii: np.ndarray,
    turn_deg: float,
    cortex: float,
    marrow: float,
    grain: Waves,
) -> None:
    """An ellipsoid, turned in the plane of the film."""
    reach = float(radii.max())
    region = painter.box((centre - reach).tolist(), (centre + reach).tolist())
    if region is None:
        return
    x, y, z = (p[region] for p in painter.points)
    c, s = math.cos(math.radians(turn_deg)), math.sin(math.radians(turn_deg))
    u, w = x - centre[0], z - centre[2]
    u, w = c * u - s * w, s * u + c * w
    depth = ellipsoid_depth(u, y - centre[1], w, centre=(0, 0, 0), radii=radii.tolist())
    lay_shell(painter, depth, depth - 0.9, cortex, marrow * (1 + 0.25 * grain.value(x, y, z)), region=region)


def _ring(painter: Painter, centre: np.ndarray, along: np.ndarray, radius: float) -> None:
    """A metal ring around a finger."""
    region = painter.box((centre - radius - 3).tolist(), (centre + radius + 3).tolist())
    if region is None:
        return
    x, y, z = (p[region] - float(c) for p, c in zip(painter.points, centre, strict=True))
    height = x * float(along[0]) + y * float(along[1]) + z * float(along[2])
    off = (x * x + y * y + z * z - height * height).clamp_min(0).sqrt()
    depth = torch.minimum(1.0 - (off - radius).abs(), 2.2 - height.abs())
    painter.lay(depth, METAL_PER_MM, region=region)
