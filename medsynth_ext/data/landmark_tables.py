"""Landmarks of a whole run as one CSV file."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from medsynth_ext.data.files import replacing
from medsynth_ext.data.landmarks import AXES, LandmarkFileError, Landmarks, rounded

__all__ = ["read_landmark_table", "write_landmark_table"]


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
    axes = AXES[dimensions.pop() if dimensions else 2]
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
                writer.writerow([case, name, *("" if math.isnan(v) else rounded(v) for v in row)])


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
    axes = next((names for names in reversed(AXES.values()) if set(names) <= set(columns)), None)
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
