"""The picture of a bundle's page: source, translated, true, their difference, and where the network saw borders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

from medsynth_ext.data.files import replacing
from medsynth_ext.data.scans import ScanError, scan_name

__all__ = ["draw_page", "panels"]


def panels(
    mr: np.ndarray,  # (D, H, W)
    found_hu: np.ndarray,  # (D, H, W)
    true_hu: np.ndarray,  # (D, H, W)
    share: np.ndarray,  # (D, H, W) in [0, 1]
    *,
    window_hu: Sequence[float],
    error_hu: float,
) -> list[np.ndarray]:  # five of (D, H, W, 3) uint8
    """MR, found CT, true CT, error (red too dense, blue not dense enough), share of the high band."""
    low, high = window_hu
    error = np.clip((found_hu - true_hu) / error_hu, -1, 1)
    coloured = np.stack([1 + np.minimum(error, 0), 1 - np.abs(error), 1 - np.maximum(error, 0)], -1)
    greys = [mr / max(float(np.percentile(mr, 99.5)), 1e-6), *((hu - low) / (high - low) for hu in (found_hu, true_hu))]
    volumes = [np.repeat(np.clip(g, 0, 1)[..., None], 3, -1) for g in greys]
    volumes += [coloured, np.repeat(np.clip(share, 0, 1)[..., None], 3, -1)]
    return [np.round(255 * volume).astype(np.uint8) for volume in volumes]


def draw_page(
    dataset_dir: str | Path,
    results_dir: str | Path,
    path: str | Path,
    *,
    cases: int = 2,
    window_hu: Sequence[float] = (-300.0, 1500.0),
    error_hu: float = 600.0,
    scale: int = 2,
) -> None:
    """Draw an axial and a sagittal slice of pairs that were translated with ``bands``; a column for each panel.

    Args:
        dataset_dir: holds ``mr/NAME.nii.gz`` and ``ct/NAME.nii.gz``.
        results_dir: holds ``NAME_sct.nii.gz`` and ``NAME_phigh.nii.gz``.
        path: the PNG.
        cases: how many of them, in order of name.
        window_hu: of the CTs.
        error_hu: shown in full colour.
        scale: pixels per voxel.

    Raises:
        ScanError: when no case has all four files.
    """
    rows: list[np.ndarray] = []
    for source in sorted((Path(dataset_dir) / "mr").glob("*.nii*")):
        name = scan_name(source)
        files = [source, Path(results_dir) / f"{name}_sct.nii.gz", Path(dataset_dir) / "ct" / source.name]
        files.append(Path(results_dir) / f"{name}_phigh.nii.gz")
        if not all(file.is_file() for file in files):
            continue
        volumes = [np.asarray(nib.as_closest_canonical(nib.load(file)).dataobj, dtype=np.float32) for file in files]
        shown = panels(*volumes, window_hu=window_hu, error_hu=error_hu)
        middle = [n // 2 for n in volumes[0].shape]
        for axis, place in ((2, middle[2]), (0, middle[0] + 3)):
            planes = [np.take(volume, place, axis).transpose(1, 0, 2)[::-1] for volume in shown]
            rows.append(np.concatenate(planes, 1))
        if len(rows) == 2 * cases:
            break
    if not rows:
        raise ScanError(
            f"no scan of {Path(dataset_dir) / 'mr'} has its CT and, in {results_dir}, its results with bands"
        )
    width = max(row.shape[1] for row in rows)
    page = np.concatenate([np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows])
    with replacing(path) as temporary:
        picture = Image.fromarray(page)
        picture.resize((picture.width * scale, picture.height * scale)).save(temporary, format="PNG", optimize=True)
