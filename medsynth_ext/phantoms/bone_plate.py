"""A thin curved plate of bone with a free outline, such as the wing of the ilium."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

__all__ = ["BonePlate"]

_ANGLES = 720
_RIM_SHARE = 0.1  # width of the rim in units of the reach


@dataclass(frozen=True)
class BonePlate:
    """A sheet ``c = bulge * (1 - |p|^2 / reach^2)`` over the points p = (a, b) inside a star-shaped outline.

    The frame's axes are a and b along the sheet and c across it; the outline runs smoothly through ``points``.

    Args:
        origin: (3,) mm, where the frame stands.
        frame: (3, 3) rows are the unit axes a, b, c.
        points: (K, 2) mm, of the outline in order of rising angle.
        bulge: height of the middle over the outline, in mm.
        half_mm: half of the thickness in the middle.
        rims: (K,) mm, what the rim has more than that at each corner.
        wall_mm: cortex.
    """

    origin: np.ndarray
    frame: np.ndarray
    points: np.ndarray
    bulge: float
    half_mm: float
    rims: np.ndarray
    wall_mm: float

    @property
    def reach(self) -> float:
        """Radius of the farthest point."""
        return float(np.linalg.norm(self.points, axis=1).max())

    def point(self, number: int) -> np.ndarray:  # (3,)
        """Place in mm of a point of the outline, in the middle of the thickness."""
        a, b = self.points[number]
        height = self.bulge * (1 - (a * a + b * b) / self.reach**2)
        return self.origin + np.array([a, b, height]) @ self.frame

    def moved(self, turn: np.ndarray, shift: np.ndarray, scale: float = 1.0) -> BonePlate:
        """Scaled, then turned by a (3, 3) matrix, then shifted."""
        origin, frame = scale * turn @ self.origin + shift, self.frame @ turn.T
        bulge, half, wall = (scale * v for v in (self.bulge, self.half_mm, self.wall_mm))
        return BonePlate(origin, frame, scale * self.points, bulge, half, scale * self.rims, wall)

    def _around(self, values: np.ndarray) -> Tensor:  # at evenly spaced angles from -pi on, the first again at the end
        """A smooth periodic curve through a value at every point of the outline."""
        angles = np.arctan2(self.points[:, 1], self.points[:, 0])
        order = np.argsort(angles)
        angles, values = angles[order], values[order]
        spline = CubicSpline([*angles, angles[0] + 2 * math.pi], [*values, values[0]], bc_type="periodic")
        first = angles[0]
        turns = first + np.mod(np.linspace(-math.pi, math.pi, _ANGLES + 1) - first, 2 * math.pi)
        return torch.from_numpy(spline(turns)).float()

    def corners(self) -> tuple[np.ndarray, np.ndarray]:
        """Low and high corner of a box around it."""
        edge = np.stack([self.point(k) for k in range(len(self.points))])
        margin = abs(self.bulge) + self.half_mm + float(self.rims.max()) + 0.08 * self.reach
        return edge.min(0) - margin, edge.max(0) + margin

    def depths(self, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Depth in mm below the surface of the cortex and below that of the marrow."""
        x, y, z = (p - float(o) for p, o in zip((x, y, z), self.origin, strict=True))
        a, b, c = (x * float(e[0]) + y * float(e[1]) + z * float(e[2]) for e in self.frame)
        square = a * a + b * b
        place = (torch.atan2(b, a) + math.pi).mul_(_ANGLES / (2 * math.pi)).clamp_(0, _ANGLES - 1e-3)
        low = place.long()
        share = place - low
        table = torch.stack([self._around(np.linalg.norm(self.points, axis=1)), self._around(self.rims)])
        edge, rim = (torch.lerp(row[low], row[low + 1], share) for row in table)
        inside = edge - square.sqrt()
        half = self.half_mm + rim * torch.exp(-((inside / (_RIM_SHARE * self.reach)) ** 2))
        across = (c - self.bulge * (1 - square / self.reach**2)).abs()
        # The rim is round: beyond it the distance grows in both directions.
        outer = torch.where(inside > half, half - across, half - torch.hypot(across, half - inside))
        return outer, outer - self.wall_mm
