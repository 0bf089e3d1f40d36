"""Whether organs of a synthetic CT have the densities that they have in real CT of other people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.processing import resample_from_to
from scipy import ndimage

from medsynth_ext.data.files import write_json
from medsynth_ext.data.scans import ScanError, find_scans, scan_name

__all__ = ["organ_hu", "write_organ_hu"]


def organ_hu(
    folder: str | Path, labels: str | Path, organs: Mapping[str, int], *, postfix: str = "", rim_voxels: int = 1
) -> dict[str, np.ndarray]:
    """HU of all voxels of every organ, over all scans of a folder.

    Args:
        folder: CT, real or synthetic.
        labels: for the scan ``NAME`` with its postfix, ``NAME`` with the numbers of organs; another grid is resampled.
        organs: name and number.
        postfix: of the scans' names, such as ``_sct``.
        rim_voxels: what is taken off an organ's border, where a voxel holds two tissues.

    Raises:
        ScanError: for a scan without labels, or an organ that no scan shows.
    """
    files = {scan_name(path): path for path in find_scans(labels)}
    found: dict[str, list[np.ndarray]] = {name: [] for name in organs}
    for path in find_scans(folder):
        name = scan_name(path).removesuffix(postfix)
        if name not in files:
            raise ScanError(f"{path} has no labels; wanted {Path(labels) / name}.nii.gz")
        scan: Any = nib.load(path)
        numbers: Any = nib.load(files[name])
        if scan.shape != numbers.shape or not np.allclose(scan.affine, numbers.affine, atol=1e-3):
            numbers = resample_from_to(numbers, scan, order=0)
        hu, shown = np.asarray(scan.dataobj, dtype=np.float32), np.asarray(numbers.dataobj)
        for organ, number in organs.items():
            mask = shown == number
            inside = ndimage.binary_erosion(mask, iterations=rim_voxels) if rim_voxels else mask
            found[organ].append(hu[inside])
    values = {organ: np.concatenate(parts) if parts else np.zeros(0) for organ, parts in found.items()}
    empty = [organ for organ, v in values.items() if not v.size]
    if empty:
        raise ScanError(f"no scan of {folder} shows {', '.join(empty)} (label {organs[empty[0]]}) by more than its rim")
    return values


def write_organ_hu(
    path: str | Path,
    *,
    found: str | Path,
    found_labels: str | Path,
    real: str | Path,
    real_labels: str | Path,
    organs: Mapping[str, Sequence[int]],
    postfix: str = "_sct",
    rim_voxels: int = 1,
) -> dict[str, Any]:
    """Compare the mean HU of organs in translated MR and in real CT of other people, and write the figures as JSON.

    Args:
        path: the JSON file.
        found: folder of synthetic CT.
        found_labels: organs of the MR that it was made from.
        real: folder of real CT.
        real_labels: its organs.
        organs: name, and its number in either folder of labels.
        postfix: of the synthetic CT's names.
        rim_voxels: see :func:`organ_hu`.

    Raises:
        ScanError: see :func:`organ_hu`.
    """
    made, true = (
        organ_hu(folder, labels, {name: pair[i] for name, pair in organs.items()}, postfix=end, rim_voxels=rim_voxels)
        for i, (folder, labels, end) in enumerate(((found, found_labels, postfix), (real, real_labels, "")))
    )
    rows = {
        name: {
            "found_hu": float(made[name].mean()),
            "found_sd": float(made[name].std()),
            "real_hu": float(true[name].mean()),
            "real_sd": float(true[name].std()),
            "difference_hu": float(made[name].mean() - true[name].mean()),
        }
        for name in organs
    }
    figures = {"hu_dif": float(np.mean([abs(row["difference_hu"]) for row in rows.values()])), "organs": rows}
    write_json(path, figures)
    return figures
