"""NIfTI files from tensors that know their grid."""

from __future__ import annotations

import os
from typing import Any

import nibabel as nib
import numpy as np
from monai.data import MetaTensor
from torch import Tensor

from medsynth_ext.data.files import OutputError, replacing
from medsynth_ext.data.scan_reader import is_dicom_scan

__all__ = ["nifti_image", "save_nifti", "scan_header"]


def scan_header(path: str | os.PathLike) -> Any:
    """The header of a NIfTI or MGZ file, ``None`` for DICOM, which has none that a NIfTI file could take over."""
    return None if is_dicom_scan(path) else nib.load(path).header


def nifti_image(
    data: Tensor,  # (C, D, H, W)
    dtype: type[np.generic],
    *,
    like: Any = None,
) -> nib.Nifti1Image:
    """Image of a MetaTensor on the grid of its affine, in millimetres; 3-D for one channel, else channels last.

    Args:
        data: a MetaTensor, on any device.
        dtype: of the voxels; values are converted as NumPy does.
        like: header whose codes of the coordinate system are taken over; scanner coordinates when there are none.

    Raises:
        TypeError: for a tensor without an affine.
    """
    if not isinstance(data, MetaTensor):
        raise TypeError(f"results must be MetaTensors, whose affine tells the grid, got {type(data).__name__}")
    array = np.ascontiguousarray(data.as_tensor().detach().cpu().numpy().astype(dtype).transpose(1, 2, 3, 0))
    if array.shape[-1] == 1:
        array = array[..., 0]
    affine = data.affine.detach().cpu().numpy().astype(float)
    image = nib.Nifti1Image(array, affine)
    code = max(int(like["sform_code"]), int(like["qform_code"])) if isinstance(like, nib.Nifti1Header) else 1
    image.set_sform(affine, code=max(code, 1))
    image.set_qform(affine, code=max(code, 1))
    image.header.set_xyzt_units("mm")
    return image


def save_nifti(image: nib.Nifti1Image, path: str | os.PathLike) -> None:
    """Write an image whole or not at all.

    Raises:
        OutputError: when it cannot be written.
    """
    with replacing(path) as temporary:
        try:
            nib.save(image, temporary)
        except ValueError as error:
            raise OutputError(f"{path} cannot be written: {error}") from error
