"""Head phantoms as files: pairs of MR and CT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from medsynth_ext.data.nifti import nifti_image, save_nifti
from medsynth_ext.phantoms.head_mr_ct import head_mr_ct

__all__ = ["write_cases"]


def write_cases(
    folder: str | Path,
    *,
    cases: int = 45,
    size: int = 96,
    spacing_mm: float = 2.0,
    misregistration_voxels: float = 0.0,
    seed: int = 0,
) -> None:
    """Write ``mr/head_NNN.nii.gz`` (arbitrary units) and ``ct/head_NNN.nii.gz`` (HU).

    Args:
        folder: where to write.
        cases: number of heads.
        size: voxels per side; size times spacing should be about 192 mm.
        spacing_mm: voxel size.
        misregistration_voxels: see :func:`medsynth_ext.phantoms.head_mr_ct`.
        seed: number of the first head.
    """
    for number in tqdm(range(seed, seed + cases), desc="drawing heads"):
        pair = head_mr_ct(
            number, shape=(size,) * 3, spacing_mm=spacing_mm, misregistration_voxels=misregistration_voxels
        )
        name = f"head_{number:03d}.nii.gz"
        save_nifti(nifti_image(pair.mr, np.float32), Path(folder) / "mr" / name)
        save_nifti(nifti_image(pair.ct.round(), np.int16), Path(folder) / "ct" / name)
