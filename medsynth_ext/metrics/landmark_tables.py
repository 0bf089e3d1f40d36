"""Landmark results as files: a table of cases and a summary."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from medsynth_ext.data.files import replacing
from medsynth_ext.metrics.landmark_error import LandmarkError
from medsynth_ext.metrics.point_detection import PointDetection, detection_scores

__all__ = ["detection_rows", "error_rows", "write_rows", "write_summary"]


def error_rows(
    metric: LandmarkError, cases: Sequence[str], landmarks: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """One row for every case and labelled landmark: its error in millimetres, ``None`` where it was not predicted."""
    errors = metric.errors().tolist()
    names = [str(i) for i in range(len(errors[0]) if errors else 0)] if landmarks is None else list(landmarks)
    _check_names("cases", cases, len(errors))
    if errors:
        _check_names("landmarks", names, len(errors[0]))
    return [
        {"case": case, "landmark": name, "error_mm": value if math.isfinite(value) else None}
        for case, row in zip(cases, errors, strict=True)
        for name, value in zip(names, row, strict=True)
        if not math.isnan(value)
    ]


def detection_rows(metric: PointDetection, cases: Sequence[str]) -> list[dict[str, Any]]:
    """One row for every frame: counts and scores."""
    counts = metric.counts().tolist()
    _check_names("cases", cases, len(counts))
    return [
        {"case": case, "true_positive": tp, "false_positive": fp, "false_negative": fn, **detection_scores(tp, fp, fn)}
        for case, (tp, fp, fn) in zip(cases, counts, strict=True)
    ]


def write_rows(path: str | os.PathLike, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with the same columns as a CSV file; ``None`` and NaN become empty fields.

    Raises:
        ValueError: when a row has other columns than the first.
        OutputError: when the file cannot be written.
    """
    columns = list(rows[0]) if rows else []
    for i, row in enumerate(rows):
        if list(row) != columns:
            raise ValueError(f"row {i} must have the columns {columns}, got {list(row)}")
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        if columns:
            writer.writeheader()
        writer.writerows({k: "" if _unknown(v) else v for k, v in row.items()} for row in rows)


def write_summary(path: str | os.PathLike, summary: Mapping[str, Any]) -> None:
    """Write figures as a JSON file; numbers that JSON lacks (NaN, infinities) become ``null``.

    Raises:
        OutputError: when the file cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(_finite(summary), indent=4, allow_nan=False) + "\n", encoding="utf-8")


def _unknown(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _check_names(name: str, names: Sequence[str], count: int) -> None:
    if len(names) != count:
        raise ValueError(f"{name} must name {count}, got {len(names)}")
