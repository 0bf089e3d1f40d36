"""Short phantom recordings of both domains, and settings with which every workflow of the bundle takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medsynth_ext.phantoms.endoscopy import endoscopy_recording, write_recordings
from medsynth_ext.phantoms.endoscopy_recordings import write_domains

SIZE = (32, 64)
NETWORK: dict[str, Any] = {"width": 2, "stem_channels": 4, "modules": [1, 1, 1], "blocks": [1, 1, 1, 1]}
SETTINGS: dict[str, Any] = {"frame_size": list(SIZE), "radius": 3.0, **NETWORK}


def train(folder: Path) -> dict[str, Any]:
    """A recording of the simulator, one of surgery to train with and one to validate."""
    write_domains(folder, sim=1, intraop=2, frames=4, size=SIZE)
    small = {"epochs": 6, "samples_per_epoch": 16, "batch_size": 4, "sigma": 2.0, "window": 8, "learning_rate": 0.01}
    return {"dataset_dir": str(folder), **SETTINGS, **small}


def distributed(folder: Path) -> dict[str, Any]:
    """What changes for the comparison of two processes with one: a shorter run."""
    return {"samples_per_epoch": 8, "epochs": 2}


def evaluate(folder: Path, trained: Path) -> dict[str, Any]:
    """One more recording, and the weights of the short training."""
    write_recordings(folder, {"one": endoscopy_recording(9, domain="intraop", frames=3, size=SIZE)})
    return {"dataset_dir": str(folder), "weights": str(trained), **SETTINGS}


def infer(folder: Path, trained: Path) -> dict[str, Any]:
    """The same frames; the labels beside them are read for the table."""
    return evaluate(folder, trained)
