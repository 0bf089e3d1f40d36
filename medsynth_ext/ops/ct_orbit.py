"""A circular scan: where the source goes, and the arc that it covers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

__all__ = ["Arc", "CircularOrbit"]


@dataclass(frozen=True, eq=False)
class Arc:
    """The angles of a scan, summed up.

    Plain numbers, so that ``torch.compile`` need not look into tensors.

    Args:
        steps: (views,) float64, the share of the circle that every view stands for, in radians.
        covered: sum of the steps between the views and one more, in radians.
        sense: 1 when the angles grow, -1 when they fall.
        least_step: smallest angle between neighbours; 0 when two views have the same angle.
        greatest_step: largest angle between neighbours.
    """

    steps: Tensor
    covered: float
    sense: float
    least_step: float
    greatest_step: float

    @classmethod
    def of(cls, angles: Tensor) -> Arc:
        """Of the angles (views,) in any order."""
        if angles.numel() < 2:
            return cls(torch.full_like(angles, math.pi), 0.0, 1.0, math.pi, math.pi)
        order = angles.argsort()
        gaps = angles[order].diff()
        steps = torch.empty_like(angles)
        steps[order] = torch.cat([gaps[:1], (gaps[1:] + gaps[:-1]) / 2, gaps[-1:]])
        sense = 1.0 if float(angles[-1]) >= float(angles[0]) else -1.0
        return cls(steps, float(gaps.sum() + gaps.mean()), sense, float(gaps.min()), float(gaps.max()))


@dataclass(frozen=True, eq=False)
class CircularOrbit:
    """What filtered back-projection must know of a circular scan.

    Args:
        angles: (views,) float64 in radians.
        pixel_mm: column and row pitch of the detector, in mm.
        source_origin_mm: distance of the source from the rotation axis; None for parallel beams.
        source_detector_mm: distance of the source from the detector; None for parallel beams.
        offset_mm: position of the detector's centre along its columns and rows, from where the central ray meets it.

    Attributes:
        arc: what the angles cover.
    """

    angles: Tensor
    pixel_mm: tuple[float, float]
    source_origin_mm: float | None = None
    source_detector_mm: float | None = None
    offset_mm: tuple[float, float] = (0.0, 0.0)
    arc: Arc = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "arc", Arc.of(self.angles))

    def columns_mm(self, count: int) -> Tensor:  # (count,)
        """Position of the pixel columns from the central ray, float64."""
        return (torch.arange(count, dtype=torch.float64) - (count - 1) / 2) * self.pixel_mm[0] + self.offset_mm[0]

    def half_fan(self, count: int) -> float:
        """Angle in radians of the outermost of ``count`` columns from the central ray; 0 for parallel beams."""
        if self.source_detector_mm is None:
            return 0.0
        return math.atan(((count - 1) / 2 * self.pixel_mm[0] + abs(self.offset_mm[0])) / self.source_detector_mm)
