"""Small temporal bones, and settings with which every workflow of the bundle takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medsynth_ext.methods.oneshot.phantom_cases import write_phantom
from medsynth_ext.phantoms.inner_ear import inner_ear_phantom
from medsynth_ext.phantoms.posed_anatomy import PoseRanges

SIZE, SPACING_MM = 40, 1.0
NETWORK = {"features": [4, 8], "norm": True, "size": 24, "spacing_mm": SPACING_MM}
QUICK = {"demons_iterations": [3, 2], "rigid_iterations": 3}


def _phantom(seed: int, *places: Path) -> None:
    ranges = PoseRanges(translation_mm=3.0, deformation_mm=0.5)
    phantom = inner_ear_phantom(seed, size=(SIZE,) * 3, spacing_mm=SPACING_MM, ranges=ranges)
    write_phantom(phantom, image=places[0], mask=places[1], landmarks=places[2])


def train(folder: Path) -> dict[str, Any]:
    """One annotated volume and one to validate on."""
    for seed, part in enumerate(("reference", "validation")):
        place = folder / part
        _phantom(seed, place / "image.nii.gz", place / "mask.nii.gz", place / "landmarks.json")
    small = {"epochs": 6, "slices_per_volume": 16, "batch_size": 4, "patch_size": 24, "val_interval": 1}
    small["write_weights"] = "latest"
    return {"dataset_dir": str(folder), "learning_rate": 0.01, **NETWORK, **small}


def distributed(folder: Path) -> dict[str, Any]:
    """What changes for the comparison of two processes with one: a shorter run."""
    return {"slices_per_volume": 8, "epochs": 2}


def evaluate(folder: Path, trained: Path) -> dict[str, Any]:
    """One more subject, and the weights and the reference of the short training."""
    _phantom(9, folder / "images/one.nii.gz", folder / "labels/one.nii.gz", folder / "landmarks/one.json")
    files = {"weights": str(trained), "reference": str(trained.with_name("reference.npz"))}
    return {"dataset_dir": str(folder), **files, **NETWORK, "registration": QUICK}


def infer(folder: Path, trained: Path) -> dict[str, Any]:
    """The same scan without its labels."""
    return {**evaluate(folder, trained), "dataset_dir": str(folder / "images")}
