"""Pelvis phantoms of a few small slices, and settings with which every workflow of the bundle takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medsynth_ext.methods.semipaired.phantom_cases import write_cases

SIZE, SPACING_MM = 32, 12.8
NETWORK: dict[str, Any] = {"spacing_mm": SPACING_MM, "features": 4, "num_downs": 4}


def train(folder: Path) -> dict[str, Any]:
    """Four patients with MR, three to train with, and two with CT."""
    write_cases(folder, mr=4, ct=2, truth=1, size=SIZE, spacing_mm=SPACING_MM, slices=3, slice_mm=20.0, views=60)
    small = {"slice_size": [SIZE, SIZE], "crop": [SIZE, SIZE], "zoom": [0.9, 1.1], "discriminator_features": 4}
    steps = {"epochs": 6, "samples_per_epoch": 16, "batch_size": 4, "val_pairs": 1, "learning_rate": 0.002}
    return {"dataset_dir": str(folder), **NETWORK, **small, **steps, "discriminator_layers": 2}


def distributed(folder: Path) -> dict[str, Any]:
    """What changes for the comparison of two processes with one: a level with dropout, and two cases to validate."""
    deeper = {"num_downs": 6, "dropout": 0.5, "slice_size": [2 * SIZE, 2 * SIZE], "crop": [2 * SIZE, 2 * SIZE]}
    return {"samples_per_epoch": 8, "epochs": 2, "val_pairs": 2, **deeper}


def evaluate(folder: Path, trained: Path) -> dict[str, Any]:
    """One more patient with MR and its true CT, and the weights of the short training."""
    write_cases(folder, mr=0, ct=0, truth=1, size=SIZE, spacing_mm=SPACING_MM, slices=3, slice_mm=20.0, seed=9)
    for kind in ("mr", "ct"):
        (folder / "truth" / kind / "mr_009.nii.gz").rename(folder / "truth" / kind / "one.nii.gz")
    return {"dataset_dir": str(folder / "truth"), "weights": str(trained), **NETWORK}


def infer(folder: Path, trained: Path) -> dict[str, Any]:
    """The same MR."""
    return {**evaluate(folder, trained), "dataset_dir": str(folder / "truth" / "mr")}
