"""The chest of one person who is seen whole: layered muscles under a coat of fat, lungs with trees of vessels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from medsynth_ext.phantoms.lung_vessels import LungVessels
from medsynth_ext.phantoms.painter import Painter
from medsynth_ext.phantoms.shapes import Waves
from medsynth_ext.phantoms.thorax import SPINE_X, SPINE_Y, Thorax, superellipse_depth

__all__ = ["ChestThorax"]

_SKIN_MM, _LEAST_FAT_MM = 1.3, 3.0
_RIB_COAT_MM = 5.0  # muscle between the ribs


class _Muscle(NamedTuple):
    """A lens in the wall, seen from above: angles are 0 at the side, 90 in front, -90 behind."""

    angle: float
    width: float  # half, degrees
    inner: bool  # lies on the ribs, or under the fat
    middle: float  # mm from there
    thick: float  # half, mm
    heights: tuple[float, float, float, float]  # mm: begins, full, full, ends


_MUSCLES = (
    _Muscle(52, 34, False, 4.0, 5.5, (-25, 45, 130, 190)),  # greater pectoral
    _Muscle(40, 20, True, 3.0, 5.0, (40, 75, 130, 170)),  # lesser pectoral
    _Muscle(4, 42, True, 2.0, 4.5, (-200, -80, 110, 150)),  # serratus
    _Muscle(-24, 36, False, 3.5, 6.0, (-140, -60, 90, 140)),  # broad muscle of the back
    _Muscle(-76, 19, True, 7.0, 15.0, (-400, -300, 300, 400)),  # straightener of the spine
    _Muscle(-74, 26, False, 2.5, 4.5, (-90, -10, 300, 400)),  # trapezius
    _Muscle(-46, 22, True, 13.0, 11.0, (5, 70, 140, 170)),  # on both faces of the shoulder blade
    _Muscle(38, 34, False, 2.0, 3.5, (-400, -300, -30, 15)),  # oblique muscles of the belly
    _Muscle(78, 13, False, 3.0, 5.0, (-400, -300, -70, -40)),  # straight muscle of the belly
)
_BLADE = _Muscle(-46, 21, True, 14.0, 2.2, (20, 75, 135, 160))


class ChestThorax(Thorax):
    """One chest for pictures of the whole body's width.

    Args:
        rng: the source of all offsets.
        landmarks: see :class:`Thorax`.
    """

    cavity = (12.0, -18.0, 136.0, 94.0)
    rib_fall_mm = 105.0

    def __init__(self, rng: np.random.Generator, landmarks: Mapping[str, Sequence[float]]) -> None:
        super().__init__(rng, landmarks)
        self.vessels: LungVessels | None = None  # none are drawn before they have grown into the lungs
        self.fat = rng.uniform(5, 20)
        self.breast = max(0.0, rng.normal(2, 9))
        self.bulk = rng.uniform(0.8, 1.15)  # of the muscles
        across, along, a, b = self.cavity
        self.centre = (across + rng.normal(0, 1.5), along - 5.0 + rng.normal(0, 1.5))
        self.width, self.depth = a + 14.0 + self.fat + rng.normal(0, 2), b + 24.0 + self.fat + rng.normal(0, 2)
        self.grain_waves = Waves.draw(rng, 14, (4.0, 14.0))

    def grow_vessels(self, rng: np.random.Generator, lungs: Tensor, axes: Sequence[Tensor]) -> None:
        """Fill the lungs of a drawn chest; see :meth:`LungVessels.grow`."""
        self.vessels = LungVessels.grow(rng, lungs, axes, middle_mm=SPINE_X)

    def _lung_vessels(self, painter: Painter, lungs: Tensor) -> None:
        if self.vessels is not None:
            self.vessels.paint(painter, lungs)

    def _spine(self, painter: Painter) -> None:
        super()._spine(painter)
        region = painter.box((SPINE_X - 40, SPINE_Y - 50, -1e4), (SPINE_X + 40, SPINE_Y + 24, 1e4))
        if region is not None:
            grain = self.grain_waves.value(*(p[region] for p in painter.points))
            spongy = (painter.values[region] > 0.6 * painter.table["marrow"]).float()
            painter.values[region] += 45.0 * spongy * grain

    def _wall(self, painter: Painter, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        cavity = self._cavity_depth(x, y, z)
        across, along, a, b = self.cavity
        angle = torch.rad2deg(torch.atan2((y - along) / b, ((x - across) / a).abs()))
        waves = self.wall_waves.value(x, y, z)
        turned = angle + 2.0 * waves
        body = self._body_depth(x, y, z, angle)
        painter.lay(_couch_depth(x - self.centre[0], y - self.centre[1] + self.depth), "couch")
        painter.lay(body, "skin")
        grain = self.grain_waves.value(x, y, z)
        painter.lay(body - _SKIN_MM, painter.table["fat"] + 6.0 * grain)
        behind = (-angle / 90).clamp(0, 1)
        coat = (self.fat * (1 - 0.3 * behind) + 1.6 * waves).clamp_min(_LEAST_FAT_MM)
        below = body - _SKIN_MM - coat  # mm under the coat of fat
        outside = -cavity - _RIB_COAT_MM  # mm outside the ribs
        bulk = self.bulk * (0.45 + (outside + below).clamp(0, 40) / 28)
        depth = torch.full_like(body, -1e3)
        low, high = float(z.min()), float(z.max())
        for muscle in _MUSCLES:
            if high <= muscle.heights[0] or low >= muscle.heights[3]:
                continue
            lens = _lens(muscle, turned, outside if muscle.inner else below, z, bulk)
            depth = torch.maximum(depth, lens)
        depth = torch.maximum(torch.minimum(depth, below), torch.minimum(-outside, below))
        # Streaks of fat in the muscles.
        painter.lay(depth, painter.table["muscle"] - 28.0 * (grain - 0.9).clamp_min(0))
        blade = torch.minimum(_lens(_BLADE, turned, outside, z, 1.0), below - 2.0)
        painter.lay(blade, painter.table["bone"] * self.calcium)
        painter.lay(blade - 1.3, "marrow")
        painter.lay(cavity, "mediastinal_fat")
        return cavity

    def _body_depth(self, x: Tensor, y: Tensor, z: Tensor, angle: Tensor) -> Tensor:
        u, v = x - self.centre[0], y - self.centre[1]
        body = superellipse_depth(u, v, self.width, self.depth, 2.3)
        body = body - 6.0 * torch.exp(-((u / 16) ** 2)) * (v < 0)  # the furrow of the spine
        body = body - 3.0 * torch.exp(-((u / 14) ** 2)) * (v > 0)
        hill = torch.exp(-(((angle - 46) / 20) ** 2) - ((z - 5) / 55) ** 2)
        return body + self.breast * hill


def _couch_depth(u: Tensor, behind: Tensor) -> Tensor:
    """Depth in the shell of the table: ``u`` mm from the middle, ``behind`` mm in front of the back."""
    sheet = behind + 7.0 - u**2 / 900
    return torch.minimum(1.1 - sheet.abs(), 140 - u.abs())


def _lens(muscle: _Muscle, angle: Tensor, mm: Tensor, z: Tensor, bulk: Tensor | float) -> Tensor:
    """Depth in a muscle."""
    begins, full, still, ends = muscle.heights
    height = torch.minimum((z - begins) / (full - begins), (ends - z) / (ends - still)).clamp_(0, 1)
    depth = ((angle - muscle.angle) / muscle.width).square_().neg_().add_(1)
    depth.mul_(height).mul_(muscle.thick * bulk).sub_((mm - muscle.middle).abs_())
    return depth.masked_fill_(height <= 0, -1e3)
