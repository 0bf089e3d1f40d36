"""The procedural anatomies on which the method is tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from medsynth_ext.phantoms.hip_ct import HIP_LANDMARKS, hip_phantom, hip_ranges
from medsynth_ext.phantoms.inner_ear import inner_ear_phantom
from medsynth_ext.phantoms.inner_ear_shapes import LANDMARK_NAMES
from medsynth_ext.phantoms.posed_anatomy import PoseRanges
from medsynth_ext.phantoms.posed_ct import PosedPhantom

__all__ = ["ANATOMIES", "Anatomy", "anatomy"]


@dataclass(frozen=True)
class Anatomy:
    """One structure with its surroundings.

    Args:
        draw: ``draw(seed, size=, spacing_mm=, ranges=)``.
        landmarks: their names.
        ranges: how subjects differ.
    """

    draw: Callable[..., PosedPhantom]
    landmarks: tuple[str, ...]
    ranges: PoseRanges

    def shifted(self, translation_mm: float) -> PoseRanges:
        """The ranges with another largest shift."""
        return replace(self.ranges, translation_mm=translation_mm)


ANATOMIES = {
    "inner_ear": Anatomy(inner_ear_phantom, LANDMARK_NAMES, PoseRanges()),
    "hip": Anatomy(hip_phantom, HIP_LANDMARKS, hip_ranges()),
}


def anatomy(name: str) -> Anatomy:
    """One of ``ANATOMIES``.

    Raises:
        ValueError: for another name.
    """
    if name not in ANATOMIES:
        raise ValueError(f"anatomy must be one of {', '.join(ANATOMIES)}, got {name!r}")
    return ANATOMIES[name]
