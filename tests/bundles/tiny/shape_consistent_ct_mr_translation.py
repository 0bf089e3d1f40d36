"""A few hearts on coarse voxels, and settings with which every workflow of the bundle takes seconds."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from medsynth_ext.methods.shape_consistent.phantom_cases import write_heart_domains

SIZE = 16
VOLUMES: dict[str, Any] = {"size": [SIZE] * 3, "spacing_mm": 12.0}
NETWORKS: dict[str, Any] = {"features": [4, 8, 8], "segmenter_features": [4, 8]}


def _hearts(folder: Path, cases: int, first: int = 0) -> None:
    write_heart_domains(folder, cases={"ct": cases, "mr": cases}, first=first, size=SIZE, views=30)


def train(folder: Path) -> dict[str, Any]:
    """Three hearts per domain, two to learn from."""
    _hearts(folder, 3)
    stages = {"epochs": 6, "segmenter_epochs": 1, "generator_epochs": 1, "decay_epochs": 2, "val_cases": 1}
    rates = {"samples_per_epoch": 4, "learning_rate": 0.005, "ema_decay": 0.5, "pool_size": 2}
    return {
        "dataset_dir": str(folder),
        **VOLUMES,
        **NETWORKS,
        **stages,
        **rates,
        "discriminator_features": 4,
        "discriminator_layers": 2,
    }


def distributed(folder: Path) -> dict[str, Any]:
    """What changes for the comparison of two processes with one: full pools, and a case to validate for each."""
    _hearts(folder, 1, first=3)
    return {"samples_per_epoch": 8, "epochs": 3, "decay_epochs": 1, "val_cases": 2, "pool_size": 3}


def evaluate(folder: Path, trained: Path) -> dict[str, Any]:
    """One more heart per domain, and the networks of the short training."""
    _hearts(folder, 1, first=9)
    for domain in ("ct", "mr"):
        for kind in ("images", "labels"):
            path = folder / domain / kind / f"{domain}_009.nii.gz"
            path.rename(path.with_name("one.nii.gz"))
    settings = {"ckpt_dir": str(trained.parent), "weights": str(trained)}
    return {"dataset_dir": str(folder), **settings, **VOLUMES, **NETWORKS}


def infer(folder: Path, trained: Path) -> dict[str, Any]:
    """The CT without its label."""
    evaluate(folder, trained)
    images = folder / "scans"
    shutil.copytree(folder / "ct/images", images)
    window = {"window": [SIZE] * 3, "spacing_mm": 12.0, "features": NETWORKS["features"]}
    return {"dataset_dir": str(images), "weights": str(trained), **window}
