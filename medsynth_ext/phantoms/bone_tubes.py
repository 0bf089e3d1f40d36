"""Bones on a grid: unions of tubes, knobs and plates with a wall of cortex around marrow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from medsynth_ext.phantoms.painter import Painter
from medsynth_ext.phantoms.shapes import ellipsoid_depth, smooth_max

__all__ = ["BoneKnob", "BonePart", "BoneTube", "BoneUnion", "lay_bone", "lay_shell"]

_FAR_MM = -1e3


@dataclass(frozen=True)
class BoneTube:
    """A chain of round cones.

    Args:
        rows: (K, 4) x, y, z and outer radius in mm, at least two rows.
        walls: (K,) thickness of the cortex.
    """

    rows: np.ndarray
    walls: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[Sequence[float]] | np.ndarray, walls: float | Sequence[float] = 0.0) -> BoneTube:
        """From lists; one wall may stand for all."""
        table = np.asarray(rows, dtype=np.float64)
        if table.ndim != 2 or table.shape[1] != 4 or len(table) < 2:
            raise ValueError(f"rows must be (K, 4) with at least two rows x, y, z, radius, got {table.shape}")
        return cls(table, np.broadcast_to(np.asarray(walls, dtype=np.float64), (len(table),)))

    def moved(self, turn: np.ndarray, shift: np.ndarray, scale: float = 1.0) -> BoneTube:
        """Scaled, then turned by a (3, 3) matrix, then shifted."""
        places = scale * self.rows[:, :3] @ turn.T + shift
        return BoneTube(np.c_[places, scale * self.rows[:, 3]], scale * self.walls)

    def corners(self) -> tuple[np.ndarray, np.ndarray]:
        """Low and high corner of the box around it."""
        places, radii = self.rows[:, :3], self.rows[:, 3:]
        return (places - radii).min(0), (places + radii).max(0)

    def depths(self, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Depth in mm below the surface of the cortex and below that of the marrow."""
        places, radii, hollow = self.rows[:, :3], self.rows[:, 3], self.rows[:, 3] - self.walls

        def column(values: np.ndarray) -> Tensor:  # (K - 1, 1, 1, 1)
            return torch.from_numpy(np.ascontiguousarray(values)).float()[:, None, None, None]

        (ax, ay, az), (dx, dy, dz) = (tuple(map(column, v.T)) for v in (places[:-1], np.diff(places, axis=0)))
        u, v, w = x - ax, y - ay, z - az
        t = (u * dx + v * dy + w * dz).mul_(1 / (dx * dx + dy * dy + dz * dz)).clamp_(0, 1)
        distance = ((u - t * dx) ** 2 + (v - t * dy) ** 2 + (w - t * dz) ** 2).sqrt_()
        outer, inner = ((column(r[:-1]) + column(np.diff(r)) * t - distance).amax(0) for r in (radii, hollow))
        return outer, inner


def _box(painter: Painter, low: np.ndarray, high: np.ndarray) -> tuple[slice, ...] | None:
    return painter.box(low.tolist(), high.tolist())


def lay_bone(painter: Painter, bone: BoneTube, cortex: float, marrow: float | None = None) -> None:
    """Draw a chain of values ``cortex`` and ``marrow`` in 1/mm; without marrow it is solid."""
    region = _box(painter, *bone.corners())
    if region is None:
        return
    x, y, z = (p[region] for p in painter.points)
    outer, inner = bone.depths(x, y, z)
    if marrow is None:
        painter.lay(outer, cortex, region=region)
    else:
        lay_shell(painter, outer, inner, cortex, marrow, region=region)


def lay_shell(
    painter: Painter,
    outer: Tensor,
    inner: Tensor,
    cortex: float,
    marrow: float | Tensor,
    *,
    region: tuple[slice, ...] = (),
) -> None:
    """Draw ``marrow`` where the depth ``inner`` (mm) is positive and ``cortex`` where only ``outer`` is."""
    bone = (outer / painter.voxel_mm + 0.5).clamp_(0, 1)
    core = torch.minimum(bone, (inner / painter.voxel_mm + 0.5).clamp_(0, 1))
    target = painter.values[region]
    target.mul_(1 - bone).add_(cortex * (bone - core)).add_(marrow * core)


class BonePart(Protocol):
    """A shape that a bone is made of."""

    def corners(self) -> tuple[np.ndarray, np.ndarray]:
        """Low and high corner of the box around it, in mm."""

    def depths(self, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Depth in mm below the surface of the cortex and below that of the marrow."""


@dataclass(frozen=True)
class BoneKnob:
    """An upright ellipsoid: centre (3,), semi-axes (3,) and wall in mm."""

    centre: np.ndarray
    radii: np.ndarray
    wall: float

    def moved(self, turn: np.ndarray, shift: np.ndarray, scale: float = 1.0) -> BoneKnob:
        """Its centre scaled, turned and shifted; it stays upright."""
        return BoneKnob(scale * turn @ self.centre + shift, scale * self.radii, scale * self.wall)

    def corners(self) -> tuple[np.ndarray, np.ndarray]:
        """Low and high corner of the box around it."""
        return self.centre - self.radii, self.centre + self.radii

    def depths(self, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Depth in mm below the surface of the cortex and below that of the marrow."""
        outer = ellipsoid_depth(x, y, z, centre=self.centre.tolist(), radii=self.radii.tolist())
        return outer, outer - self.wall


class BoneUnion:
    """One bone of several parts without walls between them; creases are filled over ``smooth_mm``.

    Args:
        painter: the picture.
        parts: at least one.
        smooth_mm: width of the filled creases.
    """

    def __init__(self, painter: Painter, parts: Sequence[BonePart], *, smooth_mm: float = 5.0) -> None:
        self.painter, self.smooth_mm = painter, smooth_mm
        boxes = [part.corners() for part in parts]
        low, high = np.min([b[0] for b in boxes], 0), np.max([b[1] for b in boxes], 0)
        self.region = _box(painter, low - smooth_mm, high + smooth_mm)
        if self.region is None:
            return
        shape = [s.stop - s.start for s in self.region]
        self.outer, self.inner = torch.full(shape, _FAR_MM), torch.full(shape, _FAR_MM)
        for part in parts:
            self._add(part)

    def _part(self, low: np.ndarray, high: np.ndarray) -> tuple[tuple[slice, ...], list[Tensor]] | None:
        """Where a box lies in the union's own arrays, and the coordinates there."""
        reach = self.smooth_mm
        box = _box(self.painter, low - reach, high + reach)
        if self.region is None or box is None:
            return None
        both = [slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(box, self.region, strict=True)]
        if any(s.start >= s.stop for s in both):
            return None
        own = tuple(slice(s.start - r.start, s.stop - r.start) for s, r in zip(both, self.region, strict=True))
        return own, [p[tuple(both)] for p in self.painter.points]

    def _add(self, part: BonePart) -> None:
        """Join one more part."""
        box = self._part(*part.corners())
        if box is None:
            return
        own, points = box
        for mine, new in zip((self.outer, self.inner), part.depths(*points), strict=True):
            mine[own] = smooth_max(mine[own], new, self.smooth_mm)

    def lay(self, cortex: float, marrow: float) -> None:
        """Draw the whole in 1/mm."""
        if self.region is not None:
            lay_shell(self.painter, self.outer, self.inner, cortex, marrow, region=self.region)
