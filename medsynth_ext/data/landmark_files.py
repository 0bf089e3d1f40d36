"""Landmarks of one image as JSON."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from medsynth_ext.data.files import write_json
from medsynth_ext.data.landmarks import (
    AXES,
    LandmarkFileError,
    Landmarks,
    coordinates,
    read_object,
    rounded,
    rounded_row,
)

__all__ = ["landmark_record", "read_landmarks", "write_landmarks"]


def landmark_record(landmarks: Landmarks) -> dict[str, Any]:
    """The landmarks of one image as JSON has them.

    ``{"image", "axes", "size", "spacing_mm", "world": "RAS" or null, "landmarks": {name: {"index", "mm", "world_mm",
    "spread"}}, "notes"}``; what is unknown is ``null``.
    """
    mm = landmarks.mm
    points = {
        name: {
            "index": rounded_row(landmarks.index[i]),
            "mm": None if mm is None else rounded_row(mm[i]),
            "world_mm": None if landmarks.world_mm is None else rounded_row(landmarks.world_mm[i]),
            "spread": None if landmarks.spread is None else rounded(landmarks.spread[i]),
        }
        for i, name in enumerate(landmarks.names)
    }
    return {
        "image": landmarks.image,
        "axes": list(AXES[landmarks.index.shape[1]]),
        "size": None if landmarks.size is None else list(landmarks.size),
        "spacing_mm": None if landmarks.spacing_mm is None else list(landmarks.spacing_mm),
        "world": None if landmarks.world_mm is None else "RAS",
        "landmarks": points,
        "notes": dict(landmarks.notes),
    }


def write_landmarks(path: str | os.PathLike, landmarks: Landmarks) -> None:
    """Write the :func:`landmark_record` of one image.

    Raises:
        OutputError: when the file cannot be written.
    """
    write_json(path, landmark_record(landmarks))


def read_landmarks(path: str | os.PathLike) -> Landmarks:
    """Read what :func:`write_landmarks` wrote; hand-made files need only ``landmarks`` with an ``index`` each.

    Raises:
        LandmarkFileError: for a file that is missing, no JSON, or no landmarks.
    """
    record = read_object(path)
    points = record.get("landmarks")
    if not isinstance(points, dict) or not points:
        raise LandmarkFileError(f"{path} must hold 'landmarks': {{name: {{'index': [y, x]}}}} with at least one point")
    axes = record.get("axes")
    if axes is not None and tuple(axes) not in AXES.values():
        raise LandmarkFileError(f"{path} must have the axes ['y', 'x'] or ['z', 'y', 'x'], got {axes}")
    count = len(axes) if axes is not None else None
    index, world, spread = [], [], []
    for name, point in points.items():
        if not isinstance(point, dict) or "index" not in point:
            raise LandmarkFileError(f"{path}: '{name}' must be an object with 'index', got {point!r:.80}")
        index.append(coordinates(path, name, point["index"], count))
        count = len(index[-1]) if count is None and point["index"] is not None else count
        world.append(coordinates(path, name, point.get("world_mm"), 3))
        value = point.get("spread")
        spread.append(coordinates(path, name, None if value is None else [value], 1)[0])
    if count is None:
        raise LandmarkFileError(f"{path} has no point with a position and no 'axes'")
    placed = [[math.nan] * count if len(p) != count and math.isnan(p[0]) else p for p in index]
    known = any(point.get("world_mm") is not None for point in points.values())
    estimated = any(point.get("spread") is not None for point in points.values())
    try:
        return Landmarks(
            names=tuple(points),
            index=np.array(placed, dtype=np.float64),
            spacing_mm=record.get("spacing_mm"),
            world_mm=np.array(world) if known else None,
            spread=np.array(spread) if estimated else None,
            image=record.get("image"),
            size=record.get("size"),
            notes=record.get("notes") or {},
        )
    except (ValueError, TypeError) as error:
        raise LandmarkFileError(f"{path}: {error}") from error
