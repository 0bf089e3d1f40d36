"""Phantom hearts as files: two domains of different people, and each of them in the other modality."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from tqdm.auto import tqdm

from medsynth_ext.data.files import replacing
from medsynth_ext.phantoms.heart_ct_mr import HEART_POSES, HeartSubject, heart_subject

__all__ = ["write_heart_domains"]


def write_heart_domains(
    folder: str | Path,
    *,
    cases: Mapping[str, int],
    first: int = 0,
    seed: int = 0,
    size: int = 32,
    fov_mm: float = 192.0,
    views: int = 120,
    hidden: bool = False,
) -> None:
    """Write ``ct/images/ct_NNN.nii.gz`` (HU), ``mr/images/mr_NNN.nii.gz`` and their ``labels`` (0 to 5).

    Args:
        folder: where to write.
        cases: number of people of ``ct`` and of ``mr``.
        first: index of the first person of each.
        seed: of the populations.
        size: voxels per side.
        fov_mm: side of the field of view.
        views: projections of the CT.
        hidden: write ``ct/hidden/ct_NNN.nii.gz`` as well, the MR of that person in the CT's field of view, and the CT
            of the people in ``mr``: what a translation should look like.
    """
    numbers = [(domain, index) for domain in HEART_POSES for index in range(first, first + cases[domain])]
    for domain, index in tqdm(numbers, desc="scanning hearts"):
        subject = heart_subject(seed, index, domain=domain, size=size, fov_mm=fov_mm)
        name = f"{domain}_{index:03d}.nii.gz"
        _write(subject, Path(folder) / domain / "images" / name, subject.image(domain, views=views)[0], np.int16)
        _write(subject, Path(folder) / domain / "labels" / name, subject.labels, np.uint8)
        if hidden:
            (other,) = (name for name in HEART_POSES if name != domain)
            _write(subject, Path(folder) / domain / "hidden" / name, subject.image(other, views=views)[0], np.int16)


def _write(subject: HeartSubject, path: Path, values: torch.Tensor, dtype: type) -> None:
    data = torch.as_tensor(values).as_subclass(torch.Tensor)
    array: np.ndarray = (data.round() if data.is_floating_point() else data).numpy().astype(dtype)
    with replacing(path) as temporary:
        nib.save(nib.Nifti1Image(array, subject.affine.numpy()), temporary)
