"""Hearts of 24 voxels and settings with which every workflow of the bundle takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from medsynth_ext.methods.synthseg.heart_cases import write_heart_cases
from medsynth_ext.phantoms.heart_rendering import render_heart_mr
from medsynth_ext.phantoms.whole_heart import whole_heart_phantom

SIZE, SPACING_MM = 24, 8.0
NETWORK = {"features": [8, 16], "levels": 2}


def _map(path: Path, index: int) -> None:
    """Labels whose background is split at three levels of the image."""
    phantom = whole_heart_phantom(0, index, size=SIZE, fov_mm=SIZE * SPACING_MM, subdivisions=2)
    image = render_heart_mr(phantom, seed=index)[0].numpy()
    labels = phantom.labels.numpy().astype(np.int16)
    labels = np.where(labels == 0, 1000 * np.digitize(image, [80, 200, 320]), labels)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(labels.astype(np.int16), phantom.affine.numpy()), path)


def train(folder: Path) -> dict[str, Any]:
    """Five label maps, four to train with."""
    for i in range(5):
        _map(folder / f"maps/heart_{i}.nii.gz", i)
    return {
        "dataset_dir": str(folder),
        "val_maps": 1,
        "map_spacing_mm": SPACING_MM,
        "spacing_mm": SPACING_MM,
        "crop_size": [SIZE] * 3,
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
    """One more person in MR, and the weights of the short training."""
    write_heart_cases(folder, cases=1, first=9, size=SIZE, fov_mm=SIZE * SPACING_MM)
    for kind in ("images", "labels"):
        (folder / kind / "heart_009.nii.gz").rename(folder / kind / "one.nii.gz")
    network = {f"network_def#{name}": value for name, value in NETWORK.items()}
    return {"dataset_dir": str(folder), "weights": str(trained), "spacing_mm": SPACING_MM, **network}


def infer(folder: Path, trained: Path) -> dict[str, Any]:
    """The same scan without labels."""
    return {**evaluate(folder, trained), "dataset_dir": str(folder / "images")}
