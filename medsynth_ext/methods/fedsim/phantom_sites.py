"""The stand-in hospitals: phantom patients as files, or in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor
from tqdm.auto import tqdm

from medsynth_ext.data.nifti import nifti_image, save_nifti
from medsynth_ext.phantoms.heart_rendering import render_heart_ct
from medsynth_ext.phantoms.whole_heart import WholeHeartPhantom, whole_heart_phantom

__all__ = ["phantom_case", "write_label_maps", "write_site"]


def phantom_case(site: str, seed: int, index: int, *, size: int, sensor: str | None = None) -> tuple[Tensor, Tensor]:
    """Image (1, N, N, N) in [-1, 1] and parts (1, N, N, N) uint8 of one patient.

    Args:
        site: hospital, whose patients it sees.
        seed: of its population.
        index: of the patient.
        size: voxels per side.
        sensor: scanner; the site's own by default.
    """
    phantom = whole_heart_phantom(seed, index, site=site, size=size)
    image = render_heart_ct(phantom, site if sensor is None else sensor, seed=seed * 100_003 + index)
    return torch.as_tensor(image.as_tensor()).clamp(-1000, 1000) / 1000, phantom.labels[None]


def write_site(
    folder: str | Path,
    *,
    site: str = "A",
    cases: int = 8,
    labelled: int = 2,
    size: int = 64,
    seed: int = 0,
    first: int = 0,
) -> None:
    """Write ``images/NAME.nii.gz`` (int16 HU) and, for the first ``labelled``, ``labels/NAME.nii.gz`` (parts 0 to 7).

    Args:
        folder: where to write.
        site: hospital, ``A``, ``B`` or ``C``.
        cases: number of patients.
        labelled: how many of them get a label.
        size: voxels per side.
        seed: of the population.
        first: number of the first patient.
    """
    for index in tqdm(range(first, first + cases), desc=f"scanning patients of site {site}"):
        image, parts = phantom_case(site, seed, index, size=size)
        phantom = whole_heart_phantom(seed, index, site=site, size=size)
        name = f"{site}_{index:03d}.nii.gz"
        _write(Path(folder) / "images" / name, (1000 * image[0]).round().to(torch.int16), phantom)
        if index - first < labelled:
            _write(Path(folder) / "labels" / name, parts[0], phantom)


def write_label_maps(folder: str | Path, *, cases: int = 20, size: int = 64, seed: int = 1000, site: str = "A") -> None:
    """Write ``NAME.nii.gz`` label maps of other patients, for a shape model."""
    for index in tqdm(range(cases), desc="writing label maps"):
        phantom = whole_heart_phantom(seed, index, site=site, size=size)
        _write(Path(folder) / f"shape_{index:03d}.nii.gz", phantom.labels, phantom)


def _write(path: Path, values: Tensor, phantom: WholeHeartPhantom) -> None:
    image = MetaTensor(values[None], affine=phantom.affine)
    save_nifti(nifti_image(image, np.int16 if values.dtype == torch.int16 else np.uint8), path)
