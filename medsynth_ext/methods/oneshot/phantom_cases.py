"""Phantoms as files: a reference, a validation volume, and cases to evaluate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from tqdm.auto import tqdm

from medsynth_ext.data.files import replacing
from medsynth_ext.data.landmark_files import write_landmarks
from medsynth_ext.data.landmarks import Landmarks
from medsynth_ext.methods.oneshot.anatomies import anatomy as find_anatomy
from medsynth_ext.phantoms.posed_ct import PosedPhantom

__all__ = ["write_cases", "write_phantom"]


def write_phantom(phantom: PosedPhantom, *, image: Path, mask: Path, landmarks: Path) -> None:
    """Write a phantom as two NIfTI files and a landmark file."""
    affine = phantom.affine.numpy()
    for path, values, kind in ((image, phantom.image.round(), np.int16), (mask, phantom.mask, np.uint8)):
        with replacing(path) as temporary:
            nib.save(nib.Nifti1Image(values.numpy().astype(kind), affine), temporary)
    world = phantom.landmarks_mm.numpy()
    points = Landmarks(
        names=phantom.landmark_names,
        index=(torch.linalg.inv(phantom.affine) @ torch.cat([phantom.landmarks_mm, torch.ones(len(world), 1)], 1).T)[
            :3
        ].T.numpy(),
        spacing_mm=(phantom.grid.spacing_mm,) * 3,
        world_mm=world,
        image=image.name,
        size=phantom.grid.shape,
    )
    write_landmarks(landmarks, points)


def write_cases(
    folder: str | Path,
    *,
    anatomy: str = "inner_ear",
    cases: int = 10,
    size: Sequence[int] = (96, 96, 96),
    spacing_mm: float = 0.5,
    translation_mm: float = 10.0,
    seed: int = 0,
) -> None:
    """Write ``reference/``, ``validation/`` and ``images/``, ``labels/``, ``landmarks/`` of the cases.

    Args:
        folder: where to write.
        anatomy: one of ``ANATOMIES``.
        cases: number of cases beside the reference and the validation volume.
        size: voxels along right, anterior, superior.
        spacing_mm: voxel size.
        translation_mm: largest shift along every axis.
        seed: number of the reference; the validation volume and the cases follow.

    Raises:
        ValueError: for another anatomy, or a shift that moves a landmark out of the field of view.
    """
    root, kind = Path(folder), find_anatomy(anatomy)
    ranges = kind.shifted(translation_mm)
    for i in tqdm(range(cases + 2), desc="drawing cases"):
        phantom = kind.draw(seed + i, size=size, spacing_mm=spacing_mm, ranges=ranges)
        if i < 2:
            part = root / ("reference", "validation")[i]
            places = part / "image.nii.gz", part / "mask.nii.gz", part / "landmarks.json"
        else:
            name = f"{anatomy.split('_')[-1]}_{seed + i:06d}"
            places = (
                root / "images" / f"{name}.nii.gz",
                root / "labels" / f"{name}.nii.gz",
                root / "landmarks" / f"{name}.json",
            )
        write_phantom(phantom, image=places[0], mask=places[1], landmarks=places[2])
