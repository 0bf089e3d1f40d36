"""Single DICOM files: what they are, their header and their pixels, through ITK's reader.

SimpleITK wraps the same GDCM reader as the ``itk`` package that MONAI's ``ITKReader`` loads, in one library that is
there at once instead of dozens that take many seconds at the first use.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medsynth_ext.data.scan_error import ScanError

__all__ = ["DICOM_SUFFIXES", "DicomHeader", "dicom_files", "is_dicom", "read_header", "read_pixels"]

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
_START = 1024  # bytes that hold the preamble and what says which kind of object a file is
_CLASSES = "1.2.840.10008.5.1.4.1.1."
_NO_IMAGES = {
    f"{_CLASSES}88.": "a structured report",
    f"{_CLASSES}11.": "a presentation state",
    f"{_CLASSES}104.": "an encapsulated document",
    f"{_CLASSES}66": "raw data or a registration",
    f"{_CLASSES}9.": "a waveform",
    f"{_CLASSES}481.3": "an RT structure set",
    f"{_CLASSES}481.5": "an RT plan",
    "1.2.840.10008.1.3.10": "a directory of files",
}
_NO_SLICES = {f"{_CLASSES}66.4": "a segmentation", f"{_CLASSES}481.2": "an RT dose"}


@dataclass(frozen=True)
class DicomHeader:
    """What the header of an image says; what it does not say is ``None``.

    Args:
        path: the file.
        series: unique name of the series.
        about: modality and description of the series.
        size: rows, columns, frames.
        channels: numbers per pixel.
        bits: of a stored number.
        spacing_mm: distance between rows and between columns.
        orientation: (2, 3) directions along a row and down a column, LPS, of length one.
        position_mm: (3,) centre of the first pixel, LPS.
        thickness_mm: distance to the next slice, or where that is not said the thickness of this one.
        number: of the instance.
    """

    path: Path
    series: str
    about: str
    size: tuple[int, int, int]
    channels: int
    bits: int
    spacing_mm: tuple[float, float] | None
    orientation: np.ndarray | None
    position_mm: np.ndarray | None
    thickness_mm: float | None
    number: int | None


def is_dicom(path: str | os.PathLike) -> bool:
    """Whether a file says by its ending or its first bytes that it is DICOM; a ``DICOMDIR`` does not count."""
    path = Path(path)
    if path.name.startswith(".") or path.name.upper() == "DICOMDIR" or not path.is_file():
        return False
    return path.name.lower().endswith(DICOM_SUFFIXES) or _start(path)[128:132] == b"DICM"


def dicom_files(folder: str | os.PathLike) -> list[Path]:
    """The DICOM files of a folder in order of name; sub-folders are not searched."""
    folder = Path(folder)
    return sorted(p for p in folder.iterdir() if is_dicom(p)) if folder.is_dir() else []


def read_header(path: str | os.PathLike) -> DicomHeader:
    """Read the header of an image.

    Raises:
        ScanError: for a file that is damaged, ends early, or is no image.
    """
    path = Path(path)
    reader = _reader(path)
    tags = {tag: reader.GetMetaData(tag).strip(" \0") for tag in reader.GetMetaDataKeys()}
    kind = next((text for uid, text in _NO_SLICES.items() if tags.get("0008|0016", "").startswith(uid)), None)
    if kind is not None:
        raise ScanError(f"{path} is {kind}: wanted an image as it comes from a scanner")
    size = (*reader.GetSize(), 1, 1)[:3]
    # Radiographs tell the size of a pixel on the detector, or of one of a scanned film, where there is no other.
    spacing = next((s for t in ("0028|0030", "0018|1164", "0018|2010") if (s := _numbers(path, tags, t, 2))), None)
    directions = _numbers(path, tags, "0020|0037", 6)
    position = _numbers(path, tags, "0020|0032", 3)
    thickness = _numbers(path, tags, "0018|0088", 1) or _numbers(path, tags, "0018|0050", 1)
    number = _numbers(path, tags, "0020|0013", 1)
    return DicomHeader(
        path=path,
        series=tags.get("0020|000e", ""),
        about=" ".join(tags[t] for t in ("0008|0060", "0008|103e") if tags.get(t)),
        size=(int(size[1]), int(size[0]), int(size[2])),
        channels=int(reader.GetNumberOfComponents()),
        bits=int(tags.get("0028|0101", 16)),
        spacing_mm=None if spacing is None else (spacing[0], spacing[1]),
        orientation=None if directions is None else _unit_directions(path, directions),
        position_mm=None if position is None else np.array(position),
        thickness_mm=None if not thickness else abs(thickness[0]) or None,
        number=None if not number else int(number[0]),
    )


def read_pixels(path: str | os.PathLike) -> np.ndarray:  # (rows, columns) or (rows, columns, channels) float32
    """The values of a file of one frame: slope and intercept applied, white bright whatever was stored.

    Raises:
        ScanError: for a file that is damaged, ends early, or is no image.
    """
    import SimpleITK as sitk  # noqa: N813 - the name everybody uses; only who has DICOM files waits for it

    reader = _reader(Path(path))
    channels = reader.GetNumberOfComponents()
    reader.SetOutputPixelType(sitk.sitkFloat32 if channels == 1 else sitk.sitkVectorFloat32)
    try:
        values = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        raise _unreadable(Path(path)) from error
    shape = values.shape[: values.ndim - (channels > 1)]
    return values.reshape(shape[-2:] + ((channels,) if channels > 1 else ()))


def _reader(path: Path) -> Any:
    import SimpleITK as sitk  # noqa: N813

    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _unreadable(path) from error
    return reader


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_START)


def _unreadable(path: Path) -> ScanError:
    """Why a file is no image, as far as its first bytes tell."""
    try:
        start, size = _start(path), path.stat().st_size
    except OSError as error:
        return ScanError(f"{path} cannot be read: {error.strerror or error}")
    if size == 0:
        return ScanError(f"{path} is not a DICOM image: the file is empty (0 bytes)")
    if start[128:132] != b"DICM":
        return ScanError(f"{path} cannot be read as a DICOM image: it does not begin like one")
    _, found, rest = start.partition(b"\x02\x00\x02\x00UI")
    uid = rest[2 : 2 + int.from_bytes(rest[:2], "little")].decode("ascii", "replace").strip(" \0") if found else ""
    kind = next((text for prefix, text in _NO_IMAGES.items() if uid.startswith(prefix)), None)
    if kind is not None:
        return ScanError(f"{path} holds no image but {kind}: wanted only the slices of one series")
    return ScanError(f"{path} cannot be read as a DICOM image: it is damaged or ends early ({size} bytes)")


def _numbers(path: Path, tags: dict[str, str], tag: str, count: int) -> list[float] | None:
    """The numbers of a tag, ``None`` where it is missing or empty."""
    text = tags.get(tag, "")
    if not text:
        return None
    try:
        values = [float(part) for part in text.split("\\")]
    except ValueError:
        values = []
    if len(values) != count or not all(math.isfinite(v) for v in values):
        group, element = tag.split("|")
        raise ScanError(f"{path} must have {count} numbers in the tag ({group},{element}), got {text!r:.80}")
    return values


def _unit_directions(path: Path, values: list[float]) -> np.ndarray:  # (2, 3)
    directions = np.array(values).reshape(2, 3)
    lengths = np.linalg.norm(directions, axis=1)
    if (abs(lengths - 1) > 0.01).any() or abs(directions[0] @ directions[1]) > 1e-3:
        raise ScanError(
            f"{path} must have two directions of length 1 at right angles (ImageOrientationPatient), got {values}"
        )
    return directions / lengths[:, None]
