"""Phantom recordings of a few small frames, and settings with which every workflow of the bundle takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medsynth_ext.phantoms.endoscopy import endoscopy_recording, write_recordings

SIZE = (64, 96)
NETWORK: dict[str, Any] = {"size": list(SIZE), "features": [4, 8, 8], "max_points": 32, "radius": 3.0}


def _record(folder: Path, name: str, seed: int, frames: int = 4) -> None:
    write_recordings(folder, {name: endoscopy_recording(seed, domain="sim", frames=3 * frames, size=SIZE)[-frames:]})


def train(folder: Path) -> dict[str, Any]:
    """Three recordings, the last one for validation."""
    for seed in range(3):
        _record(folder, f"surgery_{seed}", seed)
    settings = {"epochs": 6, "samples_per_epoch": 16, "batch_size": 4, "learning_rate": 0.01, "rotate_deg": 10.0}
    return {"dataset_dir": str(folder), **NETWORK, **settings}


def distributed(folder: Path) -> dict[str, Any]:
    """What changes for the comparison of two processes with one: a shorter run."""
    return {"samples_per_epoch": 8, "epochs": 2}


def evaluate(folder: Path, trained: Path) -> dict[str, Any]:
    """One more recording, and the weights of the short training."""
    _record(folder, "one", 9)
    return {"dataset_dir": str(folder), "weights": str(trained), **NETWORK}


def infer(folder: Path, trained: Path) -> dict[str, Any]:
    """The same frames, with their labels beside them."""
    return evaluate(folder, trained)
