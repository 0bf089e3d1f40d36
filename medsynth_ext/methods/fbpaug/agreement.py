"""Agreement of the masks of two series of the same patients."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from medsynth_ext.data.files import replacing
from medsynth_ext.data.scans import ScanError, find_scans

__all__ = ["compare_masks", "dice", "mask_volume_ml"]


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """``2 |A and B| / (|A| + |B|)``; NaN where both are empty, 0 where one is.

    >>> dice(np.array([1, 1, 0]), np.array([0, 1, 0]))
    0.6666666666666666
    """
    a, b = np.asarray(a) > 0, np.asarray(b) > 0
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else math.nan


def mask_volume_ml(mask: np.ndarray, affine: np.ndarray) -> float:
    """Volume of the voxels that are not zero."""
    return float((np.asarray(mask) > 0).sum() * abs(np.linalg.det(np.asarray(affine)[:3, :3])) / 1000)


def compare_masks(masks_a: str | Path, masks_b: str | Path, output_dir: str | Path) -> dict[str, Any]:
    """Compare masks of equal file name and write ``agreement.csv`` (a row per patient) and ``agreement.json``.

    A row has the Dice of the two masks (empty where both are empty), both volumes, their mean and difference (the axes
    of a Bland-Altman plot). The summary has means, the bias and the limits of agreement, and how many pairs were empty.

    Raises:
        ScanError: when no name is in both folders, or the two masks of a patient have other sizes or affines.
    """
    ours = {path.name: path for path in find_scans(masks_a)}
    others = {path.name: path for path in find_scans(masks_b)}
    names = sorted(ours.keys() & others.keys())
    if not names:
        raise ScanError(
            f"no file name is in both {masks_a} and {masks_b}; the first ones are {min(ours)} and {min(others)}"
        )
    rows: list[dict[str, Any]] = []
    for name in names:
        a, b = (nib.load(folder[name]) for folder in (ours, others))
        if a.shape != b.shape or not np.allclose(a.affine, b.affine, atol=1e-3):  # type: ignore[attr-defined]
            raise ScanError(f"{name} has sizes {a.shape} and {b.shape} in the two folders, or another affine")  # type: ignore[attr-defined]
        values = [np.asarray(mask.dataobj) for mask in (a, b)]  # type: ignore[attr-defined]
        first, second = (mask_volume_ml(v, a.affine) for v in values)  # type: ignore[attr-defined]
        row: dict[str, Any] = {"case": name, "dice": dice(*values), "volume_a_ml": first, "volume_b_ml": second}
        rows.append({**row, "mean_ml": (first + second) / 2, "difference_ml": second - first})
    scores = [row["dice"] for row in rows if not math.isnan(row["dice"])]
    differences = np.array([row["difference_ml"] for row in rows])
    spread = float(differences.std(ddof=1)) if len(rows) > 1 else 0.0
    summary = {
        "pairs": len(rows),
        "both_empty": len(rows) - len(scores),
        "mean_dice": float(np.mean(scores)) if scores else None,
        "mean_volume_ml": float(np.mean([row["mean_ml"] for row in rows])),
        "bias_ml": float(differences.mean()),
        "limits_of_agreement_ml": [float(differences.mean() + sign * 1.96 * spread) for sign in (-1, 1)],
        "only_in_a": sorted(ours.keys() - others.keys()),
        "only_in_b": sorted(others.keys() - ours.keys()),
    }
    with replacing(Path(output_dir) / "agreement.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow({**row, "dice": "" if math.isnan(row["dice"]) else row["dice"]})
    with replacing(Path(output_dir) / "agreement.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=4) + "\n")
    return summary
