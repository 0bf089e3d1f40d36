"""Chest slices stacked to small volumes, and settings with which every workflow of the bundle takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

from medsynth_ext.phantoms.chest import chest_slice, scan_slice

SIZE, SPACING_MM = 48, 6.5
FEATURES = [4, 8, 8]


def _pair(folder: Path, name: str, seed: int) -> None:
    images, labels = [], []
    for k in range(3):
        chest = chest_slice(10 * seed + k, size=SIZE, spacing_mm=SPACING_MM, lesions=4, vessels=20)
        scan = scan_slice(chest.fine_hu, spacing_mm=SPACING_MM, kernels=["soft"], views=60, seed=seed)["soft"]
        images.append(scan)
        labels.append(chest.lesions)
    # Rows of the phantom run from front to back, columns from right to left: transposed they are axes of NIfTI.
    affine = np.diag([-SPACING_MM, -SPACING_MM, 8.0, 1.0])
    for kind, parts, dtype in (("images", images, np.float32), ("labels", labels, np.uint8)):
        path = folder / kind / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        values = torch.stack(parts, -1).transpose(0, 1).numpy().astype(dtype)
        nib.save(nib.Nifti1Image(values, affine), path)


def train(folder: Path) -> dict[str, Any]:
    """Four cases of three slices, three to train with."""
    for i in range(4):
        _pair(folder, f"case_{i}", i)
    small = {"slice_size": [SIZE, SIZE], "epochs": 6, "samples_per_epoch": 16, "batch_size": 4, "val_pairs": 1}
    return {
        "dataset_dir": str(folder),
        "spacing_mm": SPACING_MM,
        "features": FEATURES,
        "learning_rate": 0.01,
        "kernel_mode": "fft2",
        **small,
    }


def distributed(folder: Path) -> dict[str, Any]:
    """What changes for the comparison of two processes with one: a shorter run, and a case to validate for each."""
    return {"samples_per_epoch": 8, "epochs": 2, "val_pairs": 2}


def evaluate(folder: Path, trained: Path) -> dict[str, Any]:
    """One more case, and the weights of the short training."""
    _pair(folder, "one", 9)
    return {"dataset_dir": str(folder), "weights": str(trained), "spacing_mm": SPACING_MM, "features": FEATURES}


def infer(folder: Path, trained: Path) -> dict[str, Any]:
    """The same scan without its mask."""
    return {**evaluate(folder, trained), "dataset_dir": str(folder / "images")}
