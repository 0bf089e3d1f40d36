"""What fills the lungs of one person: arteries, veins and airways as trees that reach every part, and the fissures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from medsynth_ext.phantoms.painter import Painter
from medsynth_ext.phantoms.shapes import Waves
from medsynth_ext.phantoms.vessel_tree import VesselTree, grow_tree

__all__ = ["LungVessels"]

_ENDS_MM = 9.0  # from one end of a tree to the next
_BARE_MM = 5.0  # below the pleura, where vessels are too thin to be seen
_THINNEST_AIRWAY_MM = 1.1  # radius of the artery beside it
_AIRWAY = 0.95  # outer radius of an airway over that of its artery
_AIRWAY_WALL = 0.8  # inner over outer radius
_FISSURE_MM, _FISSURE_SHARE = 1.0, 0.14
# Where the trunks of the mediastinum end, mm and radius; right and left.
_SIDES = {
    1: {"artery": (50.0, -34.0, 38.0, 6.0), "vein": (52.0, -36.0, 18.0, 5.5), "airway": (48.0, -46.0, 42.0, 6.0)},
    -1: {"artery": (-38.0, -40.0, 44.0, 5.8), "vein": (-40.0, -44.0, 20.0, 5.2), "airway": (-34.0, -48.0, 46.0, 5.5)},
}

Field = TypeVar("Field", Tensor, np.ndarray)


def _oblique_mm(y: Field, z: Field) -> Field:
    """Distance above the oblique fissure, which falls from behind to the front."""
    return (z + 8.0 + 0.95 * y) * 0.725


def _horizontal_mm(y: Field, z: Field) -> Field:
    """Distance above the horizontal fissure of the right lung."""
    return z - 26.0 + 0.08 * y


@dataclass(frozen=True)
class LungVessels:
    """Trees in mm of the average person."""

    arteries: Sequence[VesselTree]
    veins: Sequence[VesselTree]
    airways: Sequence[np.ndarray]  # (P, 8) round cones each
    middle_mm: float
    folds: Waves  # of the fissures

    @classmethod
    def grow(cls, rng: np.random.Generator, lungs: Tensor, axes: Sequence[Tensor], *, middle_mm: float) -> LungVessels:
        """Grow them into drawn lungs.

        Args:
            rng: the source of all offsets.
            lungs: (D, H, W) share of every voxel of a picture of the whole chest.
            axes: millimetres of its voxels along right, anterior, superior.
            middle_mm: what lies to the right of it is right lung.
        """
        step = float(axes[0][1] - axes[0][0])
        deep = ndimage.distance_transform_edt(np.pad(lungs.numpy() > 0.5, 1))[1:-1, 1:-1, 1:-1] * step > _BARE_MM
        first = np.array([float(axis[0]) for axis in axes])
        arteries: list[VesselTree] = []
        veins: list[VesselTree] = []
        airways: list[np.ndarray] = []
        for side, roots in _SIDES.items():
            for kind, trees in (("artery", arteries), ("vein", veins)):
                ends = _scattered(rng, deep, first, step)
                ends = ends[(ends[:, 0] > middle_mm) == (side > 0)]
                if len(ends) == 0:
                    continue
                x, y, z, radius = roots[kind]
                upper = _oblique_mm(ends[:, 1], ends[:, 2]) > 0
                lobes = upper + (upper & (side > 0) & (_horizontal_mm(ends[:, 1], ends[:, 2]) > 0)).astype(int)
                heading = (side, -0.35, -0.25 if kind == "artery" else 0.0)
                trees.append(grow_tree(rng, ends, root=(x, y, z), heading=heading, root_mm=radius, groups=lobes))
                if kind == "artery":
                    airways.append(_airway(trees[-1], roots["airway"]))
        return cls(arteries, veins, airways, middle_mm, Waves.draw(rng, 8, (60.0, 160.0)))

    def paint(self, painter: Painter, lungs: Tensor) -> None:
        """Draw them into ``lungs`` (the share of every voxel)."""
        self._fissures(painter, lungs)
        for pieces, tissue in self._layers:
            painter.blend(painter.tubes_share(pieces), tissue)

    @cached_property
    def _layers(self) -> list[tuple[np.ndarray, str]]:
        """Round cones and what they are of, in the order in which they are drawn."""
        veins, arteries = (
            np.concatenate([np.zeros((0, 8)), *(tree.pieces() for tree in trees)])
            for trees in (self.veins, self.arteries)
        )
        walls = np.concatenate([np.zeros((0, 8)), *self.airways])
        hollow = walls * np.array([1, 1, 1, _AIRWAY_WALL] * 2)
        return [(veins, "blood_left"), (arteries, "blood_right"), (walls, "airway_wall"), (hollow, "air")]

    def _fissures(self, painter: Painter, lungs: Tensor) -> None:
        x, y, z = painter.points
        z = z + 4.0 * self.folds.value(x, y, z)
        above = _oblique_mm(y, z)
        sheet = above.abs()
        right = (x > self.middle_mm) & (above > 0)
        sheet = torch.where(right, torch.minimum(sheet, _horizontal_mm(y, z).abs()), sheet)
        wide = max(painter.voxel_mm, _FISSURE_MM)
        share = _FISSURE_SHARE * _FISSURE_MM / wide * (1 - sheet / wide).clamp_(0, 1)
        painter.blend(share * lungs, "muscle")


def _scattered(rng: np.random.Generator, region: np.ndarray, first: np.ndarray, step: float) -> np.ndarray:  # (M, 3)
    """Places in a region, evenly but in no rows: those of a lattice that is turned at random, each moved a little."""
    middle = (np.array(region.shape) - 1) / 2 * step
    reach = np.linalg.norm(middle)
    axis = np.arange(-reach, reach, _ENDS_MM)
    places = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    places = middle + (places + rng.uniform(-0.5, 0.5, places.shape) * _ENDS_MM) @ turn
    index = np.rint(places / step).astype(int)
    inside = ((index >= 0) & (index < region.shape)).all(1)
    places, index = places[inside], index[inside]
    return places[region[tuple(index.T)]] + first


def _airway(artery: VesselTree, root: tuple[float, ...]) -> np.ndarray:  # (P, 8)
    """Beside the thick branches of an artery, from the end of the main bronchus on."""
    pieces = artery.pieces(thinnest_mm=_THINNEST_AIRWAY_MM, shift_mm=0.4, scale=_AIRWAY)
    return np.concatenate([[[*root, *pieces[0, :4]]], pieces])
