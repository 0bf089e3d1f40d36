"""Whole-heart phantoms as files: images of one modality, and the labels of the seven parts."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from medsynth_ext.data.files import replacing
from medsynth_ext.phantoms.heart_rendering import MR_SEQUENCES, SENSORS, render_heart_ct, render_heart_mr
from medsynth_ext.phantoms.whole_heart import WholeHeartPhantom, whole_heart_phantom

__all__ = ["heart_image", "write_heart_cases"]

MODALITIES = (*MR_SEQUENCES, *(f"ct_{name}" for name in SENSORS))


def heart_image(phantom: WholeHeartPhantom, modality: str, *, seed: int) -> Tensor:  # (1, N, N, N)
    """A phantom as an MR sequence (``bssfp``, ``angiography``) or a CT sensor (``ct_A``, ``ct_B``, ``ct_C``) shows it.

    Raises:
        ValueError: for another modality.
    """
    if modality not in MODALITIES:
        raise ValueError(f"modality must be one of {', '.join(MODALITIES)}, got {modality!r}")
    if modality in MR_SEQUENCES:
        return render_heart_mr(phantom, modality, seed=seed)
    return render_heart_ct(phantom, modality.removeprefix("ct_"), seed=seed)


def write_heart_cases(
    folder: str | Path,
    *,
    cases: int = 15,
    first: int = 0,
    seed: int = 0,
    modality: str = "bssfp",
    site: str = "A",
    size: int = 64,
    fov_mm: float = 192.0,
    only: int | None = None,
) -> None:
    """Write ``images/heart_NNN.nii.gz`` and ``labels/heart_NNN.nii.gz``.

    Args:
        folder: where to write.
        cases: number of people.
        first: index of the first person.
        seed: of the population.
        modality: see :func:`heart_image`.
        site: whom the hospital sees, see :func:`medsynth_ext.phantoms.whole_heart.whole_heart_phantom`.
        size: voxels per side.
        fov_mm: side of the field of view.
        only: keep this label alone, as data sets with one labelled part do.
    """
    for index in tqdm(range(first, first + cases), desc=f"drawing {modality} cases"):
        phantom = whole_heart_phantom(seed, index, site=site, size=size, fov_mm=fov_mm)
        image = heart_image(phantom, modality, seed=index)[0].round().clamp(-1024, 3071)
        labels = phantom.labels if only is None else phantom.labels * (phantom.labels == only)
        for kind, values, dtype in (("images", image, np.int16), ("labels", labels, np.uint8)):
            with replacing(Path(folder) / kind / f"heart_{index:03d}.nii.gz") as temporary:
                data = torch.as_tensor(values).numpy().astype(dtype)
                nib.save(nib.Nifti1Image(data, phantom.affine.numpy()), temporary)
