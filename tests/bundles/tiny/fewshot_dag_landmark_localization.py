"""Small radiographs of hands, and settings with which every workflow of the bundle takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medsynth_ext.data.landmark_files import write_landmarks
from medsynth_ext.methods.dag.phantom_cases import phantom_landmarks, write_image
from medsynth_ext.phantoms.hand_xray import hand_xray

SIZE = 64
NETWORK = {"size": SIZE, "width": 2, "stem_channels": 4, "blocks": [1, 1, 1, 1], "features": 16}


def _case(folder: Path, name: str, seed: int) -> None:
    phantom = hand_xray(seed, size=SIZE)
    write_image(folder / "images" / f"{name}.png", phantom)
    write_landmarks(folder / "landmarks" / f"{name}.json", phantom_landmarks(phantom, f"{name}.png"))


def train(folder: Path) -> dict[str, Any]:
    """Six radiographs, four to train with."""
    for i in range(6):
        _case(folder, f"case_{i}", i)
    small = {"epochs": 6, "samples_per_epoch": 16, "batch_size": 4, "val_cases": 2}
    return {"dataset_dir": str(folder), "learning_rate": 0.003, "augmentation#enabled": False, **NETWORK, **small}


def distributed(folder: Path) -> dict[str, Any]:
    """What changes for the comparison of two processes with one: unlabelled batches by turns with labelled ones."""
    write_image(folder / "unlabelled" / "more.png", hand_xray(8, size=SIZE))
    teaching = {"unlabelled_ratio": 1, "teacher_decay": 0.5, "margin": 0.0, "augmentation#enabled": True}
    return {"samples_per_epoch": 8, "epochs": 3, **teaching}


def evaluate(folder: Path, trained: Path) -> dict[str, Any]:
    """One more radiograph, and the weights of the short training."""
    _case(folder, "one", 9)
    return {"dataset_dir": str(folder), "weights": str(trained), **NETWORK}


def infer(folder: Path, trained: Path) -> dict[str, Any]:
    """The same radiograph without its landmarks."""
    return {**evaluate(folder, trained), "dataset_dir": str(folder / "images"), "views": 4}
