"""Small heads in MR and CT, and settings with which every workflow of the bundle takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from medsynth_ext.data.nifti import nifti_image, save_nifti
from medsynth_ext.phantoms.head_mr_ct import head_mr_ct

SIZE, SPACING_MM = 24, 8.0
NETWORK = {"features": [4, 8], "k": 5, "patch_size": [16, 16, 16], "spacing_mm": SPACING_MM}


def write_pair(folder: Path, name: str, seed: int) -> None:
    """One head as ``mr/NAME.nii.gz`` and ``ct/NAME.nii.gz``."""
    pair = head_mr_ct(seed, shape=(SIZE,) * 3, spacing_mm=SPACING_MM)
    save_nifti(nifti_image(pair.mr, np.float32), folder / "mr" / f"{name}.nii.gz")
    save_nifti(nifti_image(pair.ct, np.int16), folder / "ct" / f"{name}.nii.gz")


def train(folder: Path) -> dict[str, Any]:
    """Four heads, three to train with."""
    for i in range(4):
        write_pair(folder, f"head_{i}", i)
    small = {"epochs": 5, "samples_per_epoch": 8, "batch_size": 2, "val_pairs": 1, "learning_rate": 0.005}
    return {"dataset_dir": str(folder), **NETWORK, **small}


def distributed(folder: Path) -> dict[str, Any]:
    """What changes for the comparison of two processes with one: a shorter run, and a case to validate for each."""
    return {"samples_per_epoch": 8, "epochs": 2, "val_pairs": 2}


def evaluate(folder: Path, trained: Path) -> dict[str, Any]:
    """One more head, and the weights of the short training."""
    write_pair(folder, "one", 9)
    return {"dataset_dir": str(folder), "weights": str(trained), **NETWORK}


def infer(folder: Path, trained: Path) -> dict[str, Any]:
    """The same head in MR alone."""
    return {**evaluate(folder, trained), "dataset_dir": str(folder / "mr")}
