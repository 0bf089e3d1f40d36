"""A head of 32 voxels and settings with which every workflow of the bundle takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

NETWORK = {"features": [8, 16], "levels": 2}


def _head(seed: int) -> np.ndarray:
    """Nested ellipsoids: scalp, fluid, then cortex, white matter and a ventricle on each side."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(32.0)] * 3, indexing="ij"), -1) - 15.5 - rng.uniform(-1, 1, 3)
    radius = np.sqrt(((grid / rng.uniform(0.9, 1.1, 3)) ** 2).sum(-1))
    labels = np.zeros((32, 32, 32), dtype=np.int16)
    left = grid[..., 0] < 0
    for limit, (left_label, right_label) in [
        (14, (502, 502)),
        (12, (24, 24)),
        (11, (3, 42)),
        (9, (2, 41)),
        (4, (4, 43)),
    ]:
        labels = np.where(radius < limit, np.where(left, left_label, right_label), labels)
    return labels.astype(np.int16)


def _save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.eye(4)), path)


def train(folder: Path) -> dict[str, Any]:
    """Five label maps, four to train with."""
    for i in range(5):
        _save(folder / f"map_{i}.nii.gz", _head(i))
    return {
        "dataset_dir": str(folder),
        "val_maps": 1,
        "val_images_per_map": 1,
        "spacing_mm": 1.0,
        "crop_size": [24, 24, 24],
        "epochs": 4,
        "samples_per_epoch": 8,
        "learning_rate": 0.01,
        "lr_warm_up_iterations": 2,
        "amp": False,
        **NETWORK,
    }


def distributed(folder: Path) -> dict[str, Any]:
    """What changes for the comparison of two processes with one: a shorter run, warmed up first."""
    return {"samples_per_epoch": 8, "epochs": 2, "val_images_per_map": 2, "warm_up_iterations": 1}


def evaluate(folder: Path, trained: Path) -> dict[str, Any]:
    """One scan with its labels, and the weights of the short training."""
    labels = _head(9)
    scan = np.vectorize({0: 0, 502: 90, 24: 20, 3: 60, 42: 60, 2: 80, 41: 80, 4: 20, 43: 20}.get)(labels)
    scan = scan + np.random.default_rng(0).normal(0, 3, labels.shape)
    _save(folder / "images/one.nii.gz", scan.astype(np.float32))
    _save(folder / "labels/one.nii.gz", labels)
    network = {f"network_def#{name}": value for name, value in NETWORK.items()}
    return {"dataset_dir": str(folder), "weights": str(trained), "spacing_mm": 1.0, **network}


def infer(folder: Path, trained: Path) -> dict[str, Any]:
    """The same scan without labels."""
    return {**evaluate(folder, trained), "dataset_dir": str(folder / "images")}
