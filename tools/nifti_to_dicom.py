"""Write a NIfTI volume as a DICOM series, one file per slice, to try a bundle on DICOM.

    python tools/nifti_to_dicom.py scan.nii.gz FOLDER [--modality CT|MR]

Needs pydicom.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

_CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage}


def write_series(
    folder: str | Path,
    voxels: np.ndarray,  # (X, Y, Z)
    affine: np.ndarray,  # (4, 4) to RAS mm
    *,
    modality: str = "CT",
    slope: float = 1.0,
    intercept: float = 0.0,
    positions: Sequence[Sequence[float]] | None = None,
    names: Sequence[str] | None = None,
) -> list[Path]:
    """Slices of the last axis as files of 16 bits, with a sign unless that does not hold the largest value.

    The first two columns of the affine must be at right angles; the third may be oblique, which is a tilted gantry.

    Args:
        folder: where to write.
        voxels: values; what is stored is rounded.
        affine: where the voxels lie.
        modality: ``CT`` or ``MR``.
        slope: unit of the stored numbers.
        intercept: value of a stored 0.
        positions: (Z, 3) centre of the first pixel of every slice, RAS mm; by the affine when not given.
        names: of the files; numbered when not given.

    Returns:
        The files, in the order of the last axis.

    Raises:
        ValueError: for values that do not fit into 16 bits.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lps = np.diag([-1.0, -1, 1, 1]) @ np.asarray(affine, dtype=float)
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    places = np.asarray(positions) * [-1, -1, 1] if positions is not None else None
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    stored = np.round((voxels.astype(np.float64) - intercept) / slope)
    least, most = float(stored.min()), float(stored.max())
    kind = np.dtype(np.uint16 if least >= 0 and most > np.iinfo(np.int16).max else np.int16)
    if not (np.iinfo(kind).min <= least and most <= np.iinfo(kind).max):
        raise ValueError(f"stored values must fit into 16 bits, got {least:g} to {most:g}; a larger slope is needed")
    files = []
    for k in range(voxels.shape[2]):
        dataset = _slice(stored[:, :, k].T.astype(kind), modality)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = study, series, frame
        dataset.InstanceNumber = k + 1
        place = lps[:3] @ [0, 0, k, 1] if places is None else places[k]
        dataset.ImagePositionPatient = _decimals(place)
        dataset.ImageOrientationPatient = _decimals((lps[:3, :2] / spacing[:2]).T.ravel())
        dataset.PixelSpacing, dataset.SliceThickness = _decimals([spacing[1], spacing[0]]), _decimals([spacing[2]])[0]
        dataset.RescaleSlope, dataset.RescaleIntercept = _decimals([slope, intercept])
        files.append(folder / (names[k] if names is not None else f"{k + 1:04d}.dcm"))
        dataset.save_as(files[-1], enforce_file_format=True)
    return files


def _slice(pixels: np.ndarray, modality: str) -> Any:  # (rows, columns) int16 or uint16
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = _CLASSES[modality]
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset: Any = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate, dataset.PatientSex = "Test^Case", "TEST", "", ""
    dataset.StudyID, dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber = "1", "20260101", "120000", ""
    dataset.SeriesDate, dataset.SeriesTime, dataset.ReferringPhysicianName = "20260101", "120000", ""
    dataset.Modality, dataset.SeriesDescription, dataset.SeriesNumber = modality, f"{modality} volume", 1
    dataset.Manufacturer, dataset.PositionReferenceIndicator = "none", ""
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = np.ascontiguousarray(pixels).tobytes()
    return dataset


def _decimals(values: Sequence[float] | np.ndarray) -> list[str]:
    """Numbers as DICOM stores them: at most 16 characters."""
    return [next(text for n in range(12, 0, -1) if len(text := f"{float(v):.{n}g}") <= 16) for v in values]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path, help="NIfTI file of one volume")
    parser.add_argument("folder", type=Path, help="where the slices go")
    parser.add_argument("--modality", choices=sorted(_CLASSES), default="CT")
    args = parser.parse_args(arguments)
    image: Any = nib.load(args.scan)
    voxels = np.asarray(image.dataobj, dtype=np.float64)
    if voxels.ndim != 3:
        parser.error(f"{args.scan} must be one volume, got the shape {voxels.shape}")
    largest = float(np.abs(voxels).max())
    # Whole numbers stay as they are; others are spread over the 15 bits.
    slope = 1.0 if (voxels == voxels.round()).all() and largest <= 32767 else largest / 32767
    files = write_series(args.folder, voxels, image.affine, modality=args.modality, slope=slope)
    print(f"{len(files)} slices in {args.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
