"""Balls in noise, and settings with which every workflow of the bundle takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

SIZE = 24


def _pair(folder: Path, name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(SIZE)] * 3, indexing="ij"), -1) - rng.uniform(8, 16, 3)
    labels = ((grid**2).sum(-1) < rng.uniform(5, 7) ** 2).astype(np.uint8)
    image = (labels + rng.normal(0, 0.2, labels.shape)).astype(np.float32)
    for kind, values in (("images", image), ("labels", labels)):
        path = folder / kind / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(values, np.eye(4)), path)


def train(folder: Path) -> dict[str, Any]:
    """Five pairs, four to train with."""
    for i in range(5):
        _pair(folder, f"case_{i}", i)
    small = {"crop_size": [SIZE] * 3, "epochs": 4, "samples_per_epoch": 8, "batch_size": 1, "val_pairs": 1}
    return {"dataset_dir": str(folder), "learning_rate": 0.02, **small}


def evaluate(folder: Path, trained: Path) -> dict[str, Any]:
    """One more pair, and the weights of the short training."""
    _pair(folder, "one", 9)
    return {"dataset_dir": str(folder), "weights": str(trained), "crop_size": [SIZE] * 3}


def infer(folder: Path, trained: Path) -> dict[str, Any]:
    """The same image without its labels."""
    return {**evaluate(folder, trained), "dataset_dir": str(folder / "images")}
