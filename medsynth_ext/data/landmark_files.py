"""Landmarks as files: JSON of one image, CSV of a run, and 3D Slicer markups."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medsynth_ext.data.files import replacing, write_json

__all__ = [
    "LandmarkFileError",
    "Landmarks",
    "read_landmark_table",
    "read_landmarks",
    "read_markups",
    "write_landmark_table",
    "write_landmarks",
    "write_markups",
]

_AXES = {2: ("y", "x"), 3: ("z", "y", "x")}
_MARKUPS_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
# World axes as multiples of RAS; old files have numbers in place of names.
_TO_RAS = {"RAS": (1.0, 1.0, 1.0), "LPS": (-1.0, -1.0, 1.0), "0": (1.0, 1.0, 1.0), "1": (-1.0, -1.0, 1.0)}


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
        if self.index.ndim != 2 or self.index.shape[0] != n or self.index.shape[1] not in _AXES:
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


def write_landmarks(path: str | os.PathLike, landmarks: Landmarks) -> None:
    """Write the landmarks of one image as JSON.

    ``{"image", "axes", "size", "spacing_mm", "world": "RAS" or null, "landmarks": {name: {"index", "mm", "world_mm",
    "spread"}}, "notes"}``; what is unknown is ``null``.

    Raises:
        OutputError: when the file cannot be written.
    """
    mm = landmarks.mm
    points = {
        name: {
            "index": _numbers(landmarks.index[i]),
            "mm": None if mm is None else _numbers(mm[i]),
            "world_mm": None if landmarks.world_mm is None else _numbers(landmarks.world_mm[i]),
            "spread": None if landmarks.spread is None else _number(landmarks.spread[i]),
        }
        for i, name in enumerate(landmarks.names)
    }
    record = {
        "image": landmarks.image,
        "axes": list(_AXES[landmarks.index.shape[1]]),
        "size": None if landmarks.size is None else list(landmarks.size),
        "spacing_mm": None if landmarks.spacing_mm is None else list(landmarks.spacing_mm),
        "world": None if landmarks.world_mm is None else "RAS",
        "landmarks": points,
        "notes": dict(landmarks.notes),
    }
    write_json(path, record)


def read_landmarks(path: str | os.PathLike) -> Landmarks:
    """Read what :func:`write_landmarks` wrote; hand-made files need only ``landmarks`` with an ``index`` each.

    Raises:
        LandmarkFileError: for a file that is missing, no JSON, or no landmarks.
    """
    record = _read_json(path)
    points = record.get("landmarks")
    if not isinstance(points, dict) or not points:
        raise LandmarkFileError(f"{path} must hold 'landmarks': {{name: {{'index': [y, x]}}}} with at least one point")
    axes = record.get("axes")
    if axes is not None and tuple(axes) not in _AXES.values():
        raise LandmarkFileError(f"{path} must have the axes ['y', 'x'] or ['z', 'y', 'x'], got {axes}")
    count = len(axes) if axes is not None else None
    index, world, spread = [], [], []
    for name, point in points.items():
        if not isinstance(point, dict) or "index" not in point:
            raise LandmarkFileError(f"{path}: '{name}' must be an object with 'index', got {point!r:.80}")
        index.append(_coordinates(path, name, point["index"], count))
        count = len(index[-1]) if count is None and point["index"] is not None else count
        world.append(_coordinates(path, name, point.get("world_mm"), 3))
        value = point.get("spread")
        spread.append(_coordinates(path, name, None if value is None else [value], 1)[0])
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


def write_landmark_table(path: str | os.PathLike, cases: Iterable[tuple[str, Landmarks]]) -> None:
    """Write the landmarks of a run as CSV: a row per case and point; what is unknown is an empty field.

    The columns are ``case``, ``landmark``, the index ``y, x`` (or ``z, y, x``), the same in ``..._mm``, the position
    ``r_mm, a_mm, s_mm`` in the world, and ``spread``.

    Raises:
        ValueError: when the cases have different numbers of axes.
        OutputError: when the file cannot be written.
    """
    cases = list(cases)
    dimensions = {landmarks.index.shape[1] for _, landmarks in cases}
    if len(dimensions) > 1:
        raise ValueError(f"the cases of one table must all have 2 or all have 3 axes, got {sorted(dimensions)}")
    axes = _AXES[dimensions.pop() if dimensions else 2]
    columns = ["case", "landmark", *axes, *(f"{a}_mm" for a in axes), "r_mm", "a_mm", "s_mm", "spread"]
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for case, landmarks in cases:
            n = len(landmarks.names)
            parts = [
                landmarks.index,
                np.full((n, len(axes)), math.nan) if landmarks.mm is None else landmarks.mm,
                np.full((n, 3), math.nan) if landmarks.world_mm is None else landmarks.world_mm,
                np.full((n, 1), math.nan) if landmarks.spread is None else landmarks.spread[:, None],
            ]
            for name, row in zip(landmarks.names, np.concatenate(parts, axis=1), strict=True):
                writer.writerow([case, name, *("" if math.isnan(v) else _number(v) for v in row)])


def read_landmark_table(path: str | os.PathLike) -> dict[str, Landmarks]:
    """Case to landmarks, from what :func:`write_landmark_table` wrote (spacings are not in it).

    Raises:
        LandmarkFileError: for a file that is missing or has other columns.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), reader.fieldnames or []
    except (OSError, UnicodeDecodeError) as error:
        raise LandmarkFileError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    axes = next((names for names in reversed(_AXES.values()) if set(names) <= set(columns)), None)
    if axes is None or not {"case", "landmark"} <= set(columns):
        raise LandmarkFileError(f"{path} must have the columns case, landmark, y, x (or z, y, x), got {columns}")
    cases: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        cases.setdefault(row["case"], []).append(row)

    def values(case: str, names: Sequence[str]) -> np.ndarray:
        try:
            return np.array([[float(row.get(name) or "nan") for name in names] for row in cases[case]])
        except ValueError as error:
            raise LandmarkFileError(f"{path}, case {case}: {error}") from error

    table = {}
    for case, case_rows in cases.items():
        world, spread = values(case, ("r_mm", "a_mm", "s_mm")), values(case, ("spread",))[:, 0]
        try:
            table[case] = Landmarks(
                names=tuple(row["landmark"] for row in case_rows),
                index=values(case, axes),
                world_mm=None if np.isnan(world).all() else world,
                spread=None if np.isnan(spread).all() else spread,
            )
        except ValueError as error:
            raise LandmarkFileError(f"{path}, case {case}: {error}") from error
    return table


def write_markups(
    path: str | os.PathLike,
    names: Sequence[str],
    world_mm: np.ndarray,  # (N, 3) RAS millimetres
    *,
    coordinate_system: str = "LPS",
    descriptions: Sequence[str] | None = None,
) -> None:
    """Write points as a 3D Slicer markups file (``.mrk.json``).

    Points without a position (NaN) are listed as undefined, so that their order is kept.

    Args:
        path: the file; viewers recognise the ending ``.mrk.json``.
        names: labels of the points.
        world_mm: positions in RAS millimetres, whatever the file's system.
        coordinate_system: ``LPS`` (3D Slicer's own) or ``RAS``, stated in the file.
        descriptions: a text per point.

    Raises:
        ValueError: for positions that are not (N, 3) or infinite, another system, or another ending.
        OutputError: when the file cannot be written.
    """
    world = np.asarray(world_mm, dtype=np.float64)
    if world.shape != (len(names), 3) or np.isinf(world).any():
        raise ValueError(f"world_mm must be ({len(names)}, 3) finite numbers for {len(names)} names, got {world.shape}")
    if coordinate_system not in ("LPS", "RAS"):
        raise ValueError(f"coordinate_system must be LPS or RAS, got {coordinate_system!r}")
    if not str(path).endswith(".mrk.json"):
        raise ValueError(f"a markups file must end in .mrk.json, got {path}")
    texts = [""] * len(names) if descriptions is None else list(descriptions)
    if len(texts) != len(names):
        raise ValueError(f"descriptions must be {len(names)} texts, got {len(texts)}")
    positions = world * np.asarray(_TO_RAS[coordinate_system])
    points = [
        {
            "id": str(i + 1),
            "label": str(name),
            "description": text,
            "associatedNodeID": "",
            "position": [0.0, 0.0, 0.0] if np.isnan(position).any() else _numbers(position),
            "orientation": [-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0],
            "selected": True,
            "locked": False,
            "visibility": True,
            "positionStatus": "undefined" if np.isnan(position).any() else "defined",
        }
        for i, (name, text, position) in enumerate(zip(names, texts, positions, strict=True))
    ]
    markup = {
        "type": "Fiducial",
        "coordinateSystem": coordinate_system,
        "coordinateUnits": "mm",
        "locked": False,
        "fixedNumberOfControlPoints": False,
        "labelFormat": "%N-%d",
        "lastUsedControlPointNumber": len(points),
        "controlPoints": points,
    }
    write_json(path, {"@schema": _MARKUPS_SCHEMA, "markups": [markup]})


def read_markups(path: str | os.PathLike) -> tuple[tuple[str, ...], np.ndarray]:  # names, (N, 3) RAS millimetres
    """Labels and positions of the first fiducial list of a 3D Slicer markups file; NaN for undefined points.

    Raises:
        LandmarkFileError: for a file that is missing, no markups, or of an unknown coordinate system or unit.
    """
    record = _read_json(path)
    lists = [m for m in record.get("markups") or [] if isinstance(m, dict) and m.get("type") == "Fiducial"]
    if not lists:
        raise LandmarkFileError(f"{path} must hold 'markups' with a list of type Fiducial")
    system, unit = str(lists[0].get("coordinateSystem", "LPS")), lists[0].get("coordinateUnits", "mm")
    if system not in _TO_RAS or unit != "mm":
        raise LandmarkFileError(f"{path} must have coordinates in LPS or RAS and mm, got {system} and {unit}")
    names, positions = [], []
    for i, point in enumerate(lists[0].get("controlPoints") or []):
        defined = point.get("positionStatus", "defined") == "defined"
        names.append(str(point.get("label", i + 1)))
        positions.append(_coordinates(path, names[-1], point.get("position") if defined else None, 3))
    return tuple(names), np.array(positions, dtype=np.float64).reshape(-1, 3) * np.asarray(_TO_RAS[system])


def _read_json(path: str | os.PathLike) -> dict[str, Any]:
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise LandmarkFileError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise LandmarkFileError(f"{path} is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise LandmarkFileError(f"{path} must hold a JSON object, got {type(record).__name__}")
    return record


def _coordinates(path: str | os.PathLike, name: str, value: Any, count: int | None) -> list[float]:
    """Numbers of a point; NaN for ``null``."""
    if value is None:
        return [math.nan] * (count or 1)
    good = isinstance(value, list) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in value
    )
    if not good or (len(value) not in _AXES if count is None else len(value) != count):
        wanted = "2 or 3" if count is None else str(count)
        raise LandmarkFileError(f"{path}: '{name}' must have {wanted} finite numbers or null, got {value!r:.80}")
    return [float(v) for v in value]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 4)


def _numbers(values: np.ndarray) -> list[float] | None:
    return None if np.isnan(values).any() else [round(float(v), 4) for v in values]
