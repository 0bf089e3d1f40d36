"""Pelvis phantoms as files: MR with surrogates, CT of others, and the hidden truth of both for scoring."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from torch import Tensor
from tqdm.auto import tqdm

from medsynth_ext.data.files import replacing
from medsynth_ext.phantoms.pelvis_ct_mr import PelvisPatient, pelvis_ct, pelvis_mr, pelvis_patient, pelvis_surrogate

__all__ = ["CT_SEEDS", "ct_patient", "write_cases"]

CT_SEEDS = 1_000_000  # seeds of patients of whom there is CT, so that nobody is in both domains
_SHIFT_MM = (8.0, 8.0, 12.0)  # of the field of view of CT: up, to the back, to the left


def ct_patient(seed: int, *, size: int, spacing_mm: float, slices: int, slice_mm: float) -> PelvisPatient:
    """A patient in the field of view of a CT, which is not quite that of an MR."""
    rng = np.random.default_rng([seed, 709])
    up, back, left = (float(rng.uniform(-s, s)) for s in _SHIFT_MM)
    return pelvis_patient(
        seed, size=size, spacing_mm=spacing_mm, slices=slices, slice_mm=slice_mm, shift_mm=(up, back, left)
    )


def write_cases(
    folder: str | Path,
    *,
    mr: int = 20,
    ct: int = 30,
    truth: int = 4,
    size: int = 128,
    spacing_mm: float = 3.2,
    slices: int = 8,
    slice_mm: float = 10.0,
    views: int = 180,
    photons: float = 2e6,
    seed: int = 0,
) -> None:
    """Write ``mr/NAME.nii.gz``, ``surrogate/NAME.nii.gz``, ``ct/OTHER.nii.gz`` and the truth of the last cases.

    ``truth/ct/NAME`` is the CT of ``truth/mr/NAME`` on its grid, ``truth/mr_of_ct/OTHER`` the MR of
    ``truth/ct_alone/OTHER``; training never sees these patients.

    Args:
        folder: where to write.
        mr: patients with MR and surrogate.
        ct: other patients with CT.
        truth: further patients of each kind with the truth.
        size: pixels per side.
        spacing_mm: pixel size; size times spacing should be about 410 mm.
        slices: slices per patient.
        slice_mm: their distance.
        views: projections of a CT.
        photons: mean count of an unattenuated ray.
        seed: number of the first patient.
    """
    folder = Path(folder)
    grid = {"size": size, "spacing_mm": spacing_mm, "slices": slices, "slice_mm": slice_mm}
    scan = {"views": views, "photons": photons}
    for case in tqdm(range(seed, seed + mr + truth), desc="drawing MR"):
        patient, name = pelvis_patient(case, **grid), f"mr_{case:03d}"  # type: ignore[arg-type]
        hidden = case >= seed + mr
        top = folder / "truth" if hidden else folder
        _write(top / "mr", name, pelvis_mr(patient), np.float32, patient)
        _write(top / "surrogate", name, pelvis_surrogate(patient), np.int16, patient)
        if hidden:
            _write(top / "ct", name, pelvis_ct(patient, couch=False, **scan), np.int16, patient)  # type: ignore[arg-type]
    for case in tqdm(range(seed, seed + ct + truth), desc="drawing CT"):
        patient, name = ct_patient(CT_SEEDS + case, **grid), f"ct_{case:03d}"  # type: ignore[arg-type]
        hidden = case >= seed + ct
        target = folder / "truth" / "ct_alone" if hidden else folder / "ct"
        _write(target, name, pelvis_ct(patient, **scan), np.int16, patient)  # type: ignore[arg-type]
        if hidden:
            _write(folder / "truth" / "mr_of_ct", name, pelvis_mr(patient), np.float32, patient)


def _write(folder: Path, name: str, slices: Tensor, dtype: type, patient: PelvisPatient) -> None:
    # Rows run from front to back, columns from right to left: transposed they are axes of NIfTI, turned over.
    affine = np.diag([-patient.spacing_mm, -patient.spacing_mm, patient.slice_mm, 1.0])
    values = slices.permute(2, 1, 0)
    values = values.round() if np.issubdtype(dtype, np.integer) else values
    with replacing(folder / f"{name}.nii.gz") as temporary:
        nib.save(nib.Nifti1Image(values.numpy().astype(dtype), affine), temporary)
