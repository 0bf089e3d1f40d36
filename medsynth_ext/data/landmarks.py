"""Named points of one image, and what the readers and writers of landmark files share."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["AXES", "LandmarkFileError", "Landmarks", "coordinates", "read_object", "rounded", "rounded_row"]

#: names of an image's axes by their number
AXES = {2: ("y", "x"), 3: ("z", "y", "x")}


class LandmarkFileError(ValueError):
    """A landmark file that cannot be used; the message names the file, what was wanted and what came."""


@dataclass(frozen=True)
class Landmarks:
    """Named points of one image.

    Args:
        names: one per point, all different.
        index: (N, D) index coordinates in the order of the image's axes, ``(y, x)`` or ``(z, y, x)``; integers are
            voxel centres; NaN for a point that is not visible or was not found.
        spacing_mm: (D,) size of a voxel in the same order, ``None`` when unknown.
        world_mm: (N, 3) positions in RAS millimetres, ``None`` when the image has no place in the world.
        spread: (N,) uncertainty of each point in voxels, ``None`` when not estimated.
        image: name of the image's file.
        size: (D,) voxels of the image.
        notes: anything else that JSON can hold, for example quality flags.

    Raises:
        ValueError: for arrays that do not fit each other, a name that occurs twice, or infinite numbers.
    """

    names: tuple[str, ...]
    index: np.ndarray
    spacing_mm: tuple[float, ...] | None = None
    world_mm: np.ndarray | None = None
    spread: np.ndarray | None = None
    image: str | None = None
    size: tuple[int, ...] | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(str(name) for name in self.names))
        object.__setattr__(self, "index", np.asarray(self.index, dtype=np.float64))
        n = len(self.names)
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise ValueError(f"names must differ, got {twice[0]!r} {self.names.count(twice[0])} times")
        if self.index.ndim != 2 or self.index.shape[0] != n or self.index.shape[1] not in AXES:
            raise ValueError(f"index must be ({n}, 2) or ({n}, 3) for {n} names, got {self.index.shape}")
        axes = self.index.shape[1]
        for name, shape in (("world_mm", (n, 3)), ("spread", (n,))):
            value = getattr(self, name)
            if value is not None:
                value = np.asarray(value, dtype=np.float64)
                object.__setattr__(self, name, value)
                if value.shape != shape:
                    raise ValueError(f"{name} must be {shape}, got {value.shape}")
        for name in ("index", "world_mm", "spread"):
            if np.isinf(getattr(self, name)).any() if getattr(self, name) is not None else False:
                raise ValueError(f"{name} must not hold infinite numbers")
        if self.spacing_mm is not None:
            spacing = tuple(float(s) for s in self.spacing_mm)
            object.__setattr__(self, "spacing_mm", spacing)
            if len(spacing) != axes or not all(0 < s < math.inf for s in spacing):
                raise ValueError(f"spacing_mm must be {axes} positive numbers, got {spacing}")
        if self.size is not None:
            object.__setattr__(self, "size", tuple(int(s) for s in self.size))
            if len(self.size) != axes:
                raise ValueError(f"size must be {axes} numbers, got {self.size}")

    @property
    def visible(self) -> np.ndarray:  # (N,) bool
        """Which points have a position."""
        return ~np.isnan(self.index).any(1)

    @property
    def mm(self) -> np.ndarray | None:  # (N, D)
        """Distance from the centre of the image's first voxel along its axes, in millimetres."""
        return None if self.spacing_mm is None else self.index * np.asarray(self.spacing_mm)


def read_object(path: str | os.PathLike) -> dict[str, Any]:
    """The JSON object of a file.

    Raises:
        LandmarkFileError: for a file that is missing or holds something else.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise LandmarkFileError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise LandmarkFileError(f"{path} is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise LandmarkFileError(f"{path} must hold a JSON object, got {type(record).__name__}")
    return record


def coordinates(path: str | os.PathLike, name: str, value: Any, count: int | None) -> list[float]:
    """The numbers of a point in a file, NaN for ``null``.

    Raises:
        LandmarkFileError: for anything else, or another count of numbers (2 or 3 by default).
    """
    if value is None:
        return [math.nan] * (count or 1)
    good = isinstance(value, list) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in value
    )
    if not good or (len(value) not in AXES if count is None else len(value) != count):
        wanted = "2 or 3" if count is None else str(count)
        raise LandmarkFileError(f"{path}: '{name}' must have {wanted} finite numbers or null, got {value!r:.80}")
    return [float(v) for v in value]


def rounded(value: float) -> float | None:
    """To a tenth of a thousandth, ``None`` for NaN, as JSON has none."""
    return None if math.isnan(value) else round(float(value), 4)


def rounded_row(values: np.ndarray) -> list[float] | None:
    """Likewise for a point; ``None`` when one of its numbers is NaN."""
    return None if np.isnan(values).any() else [round(float(v), 4) for v in values]
