"""Chest phantoms as files: images under several kernels, and the masks of their lesions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from tqdm.auto import tqdm

from medsynth_ext.data.files import replacing
from medsynth_ext.phantoms.chest import KERNELS, scan_slice
from medsynth_ext.phantoms.chest_ct import chest_ct

__all__ = ["write_cases"]

_STRIDE = 10_000  # the noise of a person's slices has neighbouring seeds
_GAP_MM = 8.0


def write_cases(
    folder: str | Path,
    *,
    cases: int = 20,
    slices: int = 8,
    size: int = 160,
    spacing_mm: float = 2.0,
    views: int = 360,
    photons: float = 1e6,
    kernels: Sequence[str] = KERNELS,
    seed: int = 0,
) -> None:
    """Write ``images/NAME.nii.gz`` (first kernel), ``images_KERNEL/NAME.nii.gz`` (the others) and ``labels/``.

    A case is one person: slices of the chest, 8 mm apart, with 0 to 4 infected regions.

    Args:
        folder: where to write.
        cases: number of cases.
        slices: slices per case.
        size: pixels per side.
        spacing_mm: pixel size; size times spacing should be about 320 mm.
        views: projections.
        photons: mean count of an unattenuated ray.
        kernels: see :func:`medsynth_ext.phantoms.chest.scan_slice`.
        seed: number of the first case.
    """
    # Rows of the phantom run from front to back, columns from right to left: the axes of NIfTI, turned over.
    affine = np.diag([-spacing_mm, -spacing_mm, _GAP_MM, 1.0])
    for case in tqdm(range(seed, seed + cases), desc="drawing cases"):
        images: dict[str, list[torch.Tensor]] = {name: [] for name in kernels}
        masks = []
        person = chest_ct(case, slices=slices, gap_mm=_GAP_MM, size=size, spacing_mm=spacing_mm)
        for number, chest in enumerate(person, start=case * _STRIDE):
            scans = scan_slice(
                chest.fine_hu, spacing_mm=spacing_mm, kernels=kernels, views=views, photons=photons, seed=number
            )
            for name in kernels:
                images[name].append(scans[name])
            masks.append(chest.lesions)
        for i, name in enumerate(kernels):
            stack = torch.stack(images[name], -1).transpose(0, 1).round().clamp(-1024, 3071)
            _write(Path(folder) / ("images" if i == 0 else f"images_{name}"), case, stack, np.int16, affine)
        _write(Path(folder) / "labels", case, torch.stack(masks, -1).transpose(0, 1), np.uint8, affine)


def _write(folder: Path, case: int, values: torch.Tensor, dtype: type, affine: np.ndarray) -> None:
    with replacing(folder / f"chest_{case:03d}.nii.gz") as temporary:
        nib.save(nib.Nifti1Image(values.numpy().astype(dtype), affine), temporary)
