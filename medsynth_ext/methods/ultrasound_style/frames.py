"""B-mode frames as files: PNG, JPEG, NIfTI or DICOM, 8 or 16 bits, with masks beside them."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from medsynth_ext.data.dicom_files import DICOM_SUFFIXES, read_header, read_pixels
from medsynth_ext.data.scans import ScanError

__all__ = [
    "IMAGE_SUFFIXES",
    "LoadGreyFramed",
    "check_frame",
    "find_frames",
    "find_items",
    "find_training_frames",
    "frame_classes",
    "image_name",
    "label_beside",
    "read_grey",
]

NIFTI_SUFFIXES = (".nii.gz", ".nii")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", *NIFTI_SUFFIXES, *DICOM_SUFFIXES)
_LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601
_LEAST = 16  # pixels along an axis


def image_name(path: str | os.PathLike) -> tuple[str, str]:
    """Name and suffix of a frame's file.

    >>> image_name("/data/images/leg.01.nii.gz")
    ('leg.01', '.nii.gz')
    """
    name = Path(path).name
    for suffix in IMAGE_SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)], name[-len(suffix) :]
    return Path(name).stem, Path(name).suffix


def find_frames(folder: str | os.PathLike) -> list[Path]:
    """The frames of ``folder/images``, or where that is not there of ``folder``, by name; or one file.

    Raises:
        ScanError: for a folder that is not there or holds no frame, or two frames of one name.
    """
    folder = Path(folder)
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise ScanError(f"the folder of frames {folder} does not exist")
    folder = folder / "images" if (folder / "images").is_dir() else folder
    files = sorted(p for p in folder.iterdir() if p.name.lower().endswith(IMAGE_SUFFIXES) and p.name[0] != ".")
    if not files:
        raise ScanError(f"no frame in {folder}: wanted files that end in {', '.join(IMAGE_SUFFIXES)} (no sub-folders)")
    seen: dict[str, Path] = {}
    for path in files:
        other = seen.setdefault(image_name(path)[0], path)
        if other is not path:
            raise ScanError(f"{other.name} and {path.name} in {folder} would give results of the same name; rename one")
    return files


def find_training_frames(
    folder: str | os.PathLike, *, held_out: float = 0.1, validation: bool = False
) -> list[dict[str, str]]:
    """Frames to learn from, or with ``validation`` those kept aside: every n-th by name, so that names' kinds mix.

    An empty list when the folder is not there, so that a workflow can be built before the data are.

    Args:
        folder: as for :func:`find_frames`.
        held_out: share that is kept aside; at least two frames.
        validation: which part.

    Raises:
        ScanError: when there are fewer than four frames: a transfer needs pairs of different frames on both sides.
    """
    if not Path(folder).is_dir():
        return []
    files = find_frames(folder)
    if len(files) < 4:
        raise ScanError(f"{folder} must hold at least 4 frames for training and validation, got {len(files)}")
    count = min(len(files) - 2, max(2, round(held_out * len(files))))
    aside = {int((k + 0.5) * len(files) / count) for k in range(count)}
    return [{"image": str(path)} for n, path in enumerate(files) if (n in aside) == validation]


def find_items(folder: str | os.PathLike) -> list[dict[str, str]]:
    """The frames of a folder as ``[{"image": path}, ...]``; none when it is not there yet."""
    return [{"image": str(path)} for path in find_frames(folder)] if Path(folder).exists() else []


def label_beside(image: str | os.PathLike) -> Path | None:
    """The mask of a frame: ``../labels/NAME.*`` beside a folder ``images``, else ``labels/NAME.*`` in its folder."""
    image = Path(image)
    root = image.parent.parent if image.parent.name == "images" else image.parent
    name, suffix = image_name(image)
    for ending in dict.fromkeys((suffix, *IMAGE_SUFFIXES)):
        path = root / "labels" / f"{name}{ending}"
        if path.is_file():
            return path
    return None


def check_frame(path: str | os.PathLike) -> None:
    """Refuse an empty file.

    Raises:
        ScanError: with one sentence.
    """
    if Path(path).stat().st_size == 0:
        raise ScanError(f"{path} is not a frame: the file is empty (0 bytes)")


def read_grey(path: str | os.PathLike) -> Tensor:  # (1, H, W) float32 in [0, 1]
    """A frame with the transducer at its first row; colours become grey.

    PNG and JPEG hold 8 or 16 bits, DICOM as many as its header says, in one frame. NIfTI holds one slice whose first
    axis runs across and whose second runs down; whole numbers are 8 or 16 bits, real ones must lie in [0, 1].

    Raises:
        ScanError: for a file that is no frame, one below 16 x 16 pixels or without any contrast, or one whose 16 bits
            hold no more than 8 do, which would be black.
    """
    path = Path(path)
    try:
        levels = _reader(path)(path)
    except (OSError, EOFError, UnidentifiedImageError, nib.filebasedimages.ImageFileError) as error:
        raise ScanError(f"{path} cannot be read as a frame: {' '.join(str(error).split())[:160]}") from error
    if min(levels.shape) < _LEAST:
        raise ScanError(f"{path} must have at least {_LEAST} rows and columns, got {levels.shape}")
    if not np.isfinite(levels).all() or levels.min() < 0 or levels.max() > 1:
        raise ScanError(f"{path} must hold real numbers in [0, 1], got {levels.min():g} to {levels.max():g}")
    if levels.max() == levels.min():
        raise ScanError(f"{path} shows nothing: every pixel is {levels.min():g}")
    return torch.from_numpy(np.ascontiguousarray(levels, dtype=np.float32))[None]


def _reader(path: Path) -> Callable[[Path], np.ndarray]:
    name = path.name.lower()
    return _nifti if name.endswith(NIFTI_SUFFIXES) else _dicom if name.endswith(DICOM_SUFFIXES) else _picture


def _dicom(path: Path) -> np.ndarray:  # (H, W)
    header = read_header(path)
    if header.size[2] != 1:
        raise ScanError(f"{path} must hold one frame, got {header.size[2]}: a clip has to be cut into its frames")
    values = read_pixels(path)
    if values.ndim == 3:
        values = values[..., :3] @ np.asarray(_LUMINANCE, dtype=np.float32)
    return values / (2.0**header.bits - 1)


def _picture(path: Path) -> np.ndarray:  # (H, W)
    with Image.open(path) as picture:
        if picture.mode.startswith("I"):
            return _shares(path, np.asarray(picture))
        return np.asarray(picture.convert("L"), dtype=np.float32) / 255


def _nifti(path: Path) -> np.ndarray:  # (H, W)
    image: Any = nib.load(path)
    values = np.asarray(image.dataobj)
    shape = values.shape
    while values.ndim > 2 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim != 2:
        raise ScanError(f"{path} must hold one slice, got sizes {tuple(map(int, shape))}")
    return _shares(path, values.T) if values.dtype.kind in "ui" else values.T


def _shares(path: Path, levels: np.ndarray) -> np.ndarray:  # whole numbers of 8 or 16 bits to [0, 1]
    if levels.dtype.itemsize == 1:
        return levels / 255.0
    if 0 < levels.max() <= 255:
        raise ScanError(
            f"{path} holds 16-bit numbers of which none exceeds {levels.max()}: store 8-bit frames in 8 bits"
        )
    return levels / 65535.0


def frame_classes(folder: str | os.PathLike, files: Sequence[Mapping[str, str]], key: str) -> list[int]:
    """A class per frame from the column ``key`` of ``folder/frames.csv``, which names files in ``file``.

    Classes are numbered in the order of their sorted names.

    Raises:
        ScanError: when the table, the column or a frame's row is missing.
    """
    table = Path(folder) / "frames.csv"
    if not table.is_file():
        raise ScanError(f"{table} is missing: wanted a table with the columns file and {key}")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"file", key} <= set(rows[0]):
        raise ScanError(f"{table} must have the columns file and {key}, got {list(rows[0]) if rows else 'no row'}")
    named = {row["file"]: row[key] for row in rows}
    missing = [Path(item["image"]).name for item in files if Path(item["image"]).name not in named]
    if missing:
        raise ScanError(f"{table} has no row for {missing[0]} ({len(missing)} missing in all)")
    numbers = {name: number for number, name in enumerate(sorted(set(named.values())))}
    return [numbers[named[Path(item["image"]).name]] for item in files]


class LoadGreyFramed(MapTransform):
    """Loads frames with :func:`read_grey`; their meta data hold ``filename_or_obj`` and ``frame_size``."""

    def __init__(self, keys: KeysCollection) -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            frame = read_grey(result[key])
            meta = {"filename_or_obj": str(result[key]), "frame_size": tuple(frame.shape[1:])}
            result[key] = MetaTensor(frame, meta=meta)
        return result
