"""One reader for every scan that the bundles take."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.data import ImageReader, NibabelReader
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple

from medsynth_ext.data.dicom_files import is_dicom
from medsynth_ext.data.dicom_series import DicomVolume, read_series
from medsynth_ext.data.scan_error import ScanError, one_line

__all__ = ["ScanReader", "is_dicom_scan", "scan_image", "volume_meta"]

_UNREADABLE = (OSError, EOFError, ValueError, zlib.error, nib.filebasedimages.ImageFileError)


def is_dicom_scan(path: str | os.PathLike) -> bool:
    """Whether a path is a folder, which is read as a DICOM series, or a DICOM file."""
    return Path(path).is_dir() or is_dicom(path)


def scan_image(path: str | os.PathLike) -> Any:
    """A scan as nibabel's image, whatever it is stored as."""
    if not is_dicom_scan(path):
        return nib.load(path)
    volume = read_series(path)
    return nib.Nifti1Image(volume.voxels, volume.affine)


def volume_meta(volume: DicomVolume) -> dict[str, Any]:
    """What MONAI's readers tell beside the voxels, for one volume without an axis of channels."""
    affine = volume.affine.astype(np.float64)
    return {
        MetaKeys.AFFINE: affine,
        MetaKeys.ORIGINAL_AFFINE: affine.copy(),
        MetaKeys.SPATIAL_SHAPE: np.asarray(volume.voxels.shape),
        MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan"),
        MetaKeys.SPACE: SpaceKeys.RAS,
    }


class ScanReader(ImageReader):
    """Reader for ``LoadImaged``: NIfTI and MGZ through MONAI's ``NibabelReader``, folders of DICOM through ITK.

    What comes out does not depend on the format: axes (X, Y, Z), an affine to RAS millimetres, values in the unit of
    the scanner (Hounsfield units for CT). DICOM is read when the data are asked for, not before, and what is wrong with
    any file is said then: it must not make ``LoadImage`` try its other readers, which would take the first of two
    series.

    Args:
        options: of ``NibabelReader``.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.nifti = NibabelReader(**options)

    def verify_suffix(self, filename: Sequence[str | os.PathLike] | str | os.PathLike) -> bool:
        return all(is_dicom_scan(name) for name in ensure_tuple(filename)) or self.nifti.verify_suffix(filename)

    def read(self, data: Sequence[str | os.PathLike] | str | os.PathLike, **kwargs: Any) -> Any:
        """A NIfTI image that is not loaded yet, the paths of DICOM scans, or what is wrong."""
        names = [Path(name) for name in ensure_tuple(data)]
        if any(is_dicom_scan(name) for name in names):
            return names
        try:
            return self.nifti.read(data, **kwargs)
        except _UNREADABLE as error:
            return _unreadable(names, error)

    def get_data(self, img: Any) -> tuple[np.ndarray, dict]:
        """Voxels and metadata.

        Raises:
            ScanError: for a file that cannot be read, for DICOM as :func:`read_series` does, and for several series at
                once.
        """
        if isinstance(img, ScanError):
            raise img
        if not isinstance(img, list) or not isinstance(img[0], Path):
            try:
                return self.nifti.get_data(img)
            except _UNREADABLE as error:
                raise _unreadable([image.get_filename() for image in ensure_tuple(img)], error) from error
        if len(img) != 1:
            raise ScanError(f"DICOM series must be loaded one by one, got {len(img)}: {', '.join(map(str, img))}")
        volume = read_series(img[0])
        return volume.voxels, volume_meta(volume)


def _unreadable(names: Sequence[str | os.PathLike], error: Exception) -> ScanError:
    return ScanError(f"{', '.join(map(str, names))} cannot be read as a NIfTI or MGZ scan: {one_line(error)}")
