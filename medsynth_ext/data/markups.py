"""Points as 3D Slicer markups, which other viewers read as well."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from medsynth_ext.data.files import write_json
from medsynth_ext.data.landmarks import LandmarkFileError, coordinates, read_object, rounded_row

__all__ = ["markups_record", "read_markups", "write_markups"]

_MARKUPS_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
# World axes as multiples of RAS; old files have numbers in place of names.
_TO_RAS = {"RAS": (1.0, 1.0, 1.0), "LPS": (-1.0, -1.0, 1.0), "0": (1.0, 1.0, 1.0), "1": (-1.0, -1.0, 1.0)}


def markups_record(
    names: Sequence[str],
    world_mm: np.ndarray,  # (N, 3) RAS millimetres
    *,
    coordinate_system: str = "LPS",
    descriptions: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Points as 3D Slicer's markups have them in JSON.

    Points without a position (NaN) are listed as undefined, so that their order is kept.

    Args:
        names: labels of the points.
        world_mm: positions in RAS millimetres, whatever the record's system.
        coordinate_system: ``LPS`` (3D Slicer's own) or ``RAS``, stated in the record.
        descriptions: a text per point.

    Raises:
        ValueError: for positions that are not (N, 3) or infinite, or another system.
    """
    world = np.asarray(world_mm, dtype=np.float64)
    if world.shape != (len(names), 3) or np.isinf(world).any():
        raise ValueError(f"world_mm must be ({len(names)}, 3) finite numbers for {len(names)} names, got {world.shape}")
    if coordinate_system not in ("LPS", "RAS"):
        raise ValueError(f"coordinate_system must be LPS or RAS, got {coordinate_system!r}")
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
            "position": [0.0, 0.0, 0.0] if np.isnan(position).any() else rounded_row(position),
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
    return {"@schema": _MARKUPS_SCHEMA, "markups": [markup]}


def write_markups(path: str | os.PathLike, names: Sequence[str], world_mm: np.ndarray, **options: Any) -> None:
    """Write the :func:`markups_record` of points, with its options, as a 3D Slicer markups file (``.mrk.json``).

    Raises:
        ValueError: for another ending, which viewers would not recognise, or as :func:`markups_record` does.
        OutputError: when the file cannot be written.
    """
    if not str(path).endswith(".mrk.json"):
        raise ValueError(f"a markups file must end in .mrk.json, got {path}")
    write_json(path, markups_record(names, world_mm, **options))


def read_markups(path: str | os.PathLike) -> tuple[tuple[str, ...], np.ndarray]:  # names, (N, 3) RAS millimetres
    """Labels and positions of the first fiducial list of a 3D Slicer markups file; NaN for undefined points.

    Raises:
        LandmarkFileError: for a file that is missing, no markups, or of an unknown coordinate system or unit.
    """
    record = read_object(path)
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
        positions.append(coordinates(path, names[-1], point.get("position") if defined else None, 3))
    return tuple(names), np.array(positions, dtype=np.float64).reshape(-1, 3) * np.asarray(_TO_RAS[system])
