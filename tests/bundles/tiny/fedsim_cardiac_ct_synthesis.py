"""Hearts painted into small volumes, and settings with which every workflow of the bundle takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from medsynth_ext.phantoms.whole_heart import whole_heart_phantom

SIZE = 16
FEATURES = [2, 4]


def _pair(folder: Path, name: str, seed: int) -> None:
    phantom = whole_heart_phantom(60, seed, size=SIZE, subdivisions=2)
    parts = phantom.labels.numpy()
    noise = np.random.default_rng(seed).normal(0, 60, parts.shape)
    image = np.where(parts > 0, 250, -850) + noise
    image[..., -2:] = -1000  # air
    for kind, values in (("images", image.astype(np.int16)), ("labels", parts)):
        path = folder / kind / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(values, np.asarray(phantom.affine)), path)


def train(folder: Path) -> dict[str, Any]:
    """Five patients, four to train with."""
    for i in range(5):
        _pair(folder, f"case_{i}", i)
    small = {"size": SIZE, "epochs": 4, "samples_per_epoch": 8, "batch_size": 1, "val_pairs": 1}
    return {"dataset_dir": str(folder), "features": FEATURES, "learning_rate": 0.02, **small}


def distributed(folder: Path) -> dict[str, Any]:
    """What changes for the comparison of two processes with one: a shorter run, and a case to validate for each."""
    return {"samples_per_epoch": 8, "epochs": 2, "val_pairs": 2}


def evaluate(folder: Path, trained: Path) -> dict[str, Any]:
    """One more patient, and the weights of the short training."""
    _pair(folder, "one", 9)
    return {"dataset_dir": str(folder), "weights": str(trained), "size": SIZE, "features": FEATURES}


def infer(folder: Path, trained: Path) -> dict[str, Any]:
    """The same scan without its label."""
    return {**evaluate(folder, trained), "dataset_dir": str(folder / "images")}
