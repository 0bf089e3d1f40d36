"""Small phantom frames, and settings with which every workflow of the bundle takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medsynth_ext.phantoms.ultrasound import write_frames

NETWORK: dict[str, Any] = {"size": [32, 32], "features": [4, 6, 8, 8, 8]}


def train(folder: Path) -> dict[str, Any]:
    """Frames of all contents and machines, a tenth for validation."""
    write_frames(folder, count=24, size=(40, 40))
    settings = {"epochs": 6, "samples_per_epoch": 32, "batch_size": 4, "learning_rate": 0.01, "ema_decay": 0.8}
    return {"dataset_dir": str(folder), **NETWORK, **settings}


def distributed(folder: Path) -> dict[str, Any]:
    """Two frames for validation, one for each process; batch norm takes its statistics over all of them.

    A bias in front of batch norm has no gradient but rounding, of which Adam makes steps as large as its rate. Running
    means follow those late, so that a validation after a few steps of 0.01 differs by percents.
    """
    settings = {**train(folder), "samples_per_epoch": 8, "epochs": 2, "learning_rate": 0.001}
    del settings["batch_size"]  # the test's own: 2 for one process, 1 for each of two
    return settings


def evaluate(folder: Path, trained: Path) -> dict[str, Any]:
    """Two other frames, and the weights of the short training."""
    for path in write_frames(folder, count=2, first_seed=90, size=(40, 40), contents=("leg",)):
        for kind in ("images", "labels"):
            source = folder / kind / path.name
            source.rename(source.with_name("one_" + path.name))
    return {"dataset_dir": str(folder), "weights": str(trained), **NETWORK}


def infer(folder: Path, trained: Path) -> dict[str, Any]:
    """The same frames in each other's style."""
    return {**evaluate(folder, trained), "style_mode": "reference", "style_dir": str(folder), "num_samples": 2}
