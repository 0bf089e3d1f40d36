"""Reading radiographs: any bit depth, grey or colour, with or without a place in the world."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor, NibabelReader
from monai.transforms import MapTransform
from PIL import Image, UnidentifiedImageError

from medsynth_ext.data.dicom_files import dicom_files, is_dicom, read_header, read_pixels
from medsynth_ext.data.landmark_files import read_landmarks
from medsynth_ext.data.scans import ScanError

__all__ = [
    "MIN_SIDE",
    "SUFFIXES",
    "LoadRadiographd",
    "Radiograph",
    "check_radiograph",
    "find_radiographs",
    "radiograph_name",
    "read_radiograph",
]

SUFFIXES = (".nii.gz", ".nii", ".dcm", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
MIN_SIDE = 32  # pixels: the network's coarsest stride
_LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601


@dataclass(frozen=True)
class Radiograph:
    """Grey values with bone bright, and where they lie.

    Args:
        pixels: (H, W) float32.
        spacing_mm: size of a pixel along (y, x), ``None`` when the file does not tell.
        world: (4, 4) from the index (y, x, 0, 1) to RAS millimetres. For files without a position, as viewers place
            them: x to the left, y to the back, pixels of 1 mm unless known.
    """

    pixels: np.ndarray
    spacing_mm: tuple[float, float] | None
    world: np.ndarray


def radiograph_name(path: str | os.PathLike) -> str:
    """File name without folder and image suffix."""
    name = Path(path).name
    suffix = next((s for s in SUFFIXES if name.lower().endswith(s)), "")
    return name[: len(name) - len(suffix)]


def find_radiographs(folder: str | os.PathLike) -> list[Path]:
    """All image files of a folder in order of name; a path to one file gives that file.

    DICOM files need no ending, and a sub-folder that holds one of them is a radiograph with the folder's name. Overlays
    that a run wrote beside its input are left out.

    Raises:
        ScanError: when the folder does not exist or holds no image, or two images share a name.
    """
    folder = Path(folder)
    if folder.is_file():
        if not _is_image(folder):
            raise ScanError(f"{folder} is not a radiograph: wanted a file that ends in {', '.join(SUFFIXES)}")
        return [folder]
    if not folder.is_dir():
        raise ScanError(f"the folder of radiographs {folder} does not exist")
    files = sorted(p for p in folder.iterdir() if p.name[0] != "." and (_is_image(p) or dicom_files(p)))
    overlays = {radiograph_name(p) + "_overlay" for p in files}
    files = [p for p in files if radiograph_name(p) not in overlays]
    if not files:
        raise ScanError(f"no radiograph in {folder}: wanted files that end in {', '.join(SUFFIXES)}")
    seen: dict[str, Path] = {}
    for path in files:
        other = seen.setdefault(radiograph_name(path), path)
        if other is not path:
            raise ScanError(f"{other.name} and {path.name} in {folder} would give results of the same name; rename one")
    return files


def check_radiograph(path: str | os.PathLike) -> None:
    """Say at once when a file is empty.

    Raises:
        ScanError: with one sentence.
    """
    if Path(path).stat().st_size == 0:
        raise ScanError(f"{path} is not a radiograph: the file is empty (0 bytes)")


def read_radiograph(path: str | os.PathLike, *, spacing_mm: Sequence[float] | None = None) -> Radiograph:
    """Read a 2D image. Colours become luminance, transparent pixels black, and DICOM of the kind
    MONOCHROME1 is turned over.

    Args:
        path: a file with one of ``SUFFIXES``, a DICOM file, or a folder that holds one.
        spacing_mm: size of a pixel along (y, x) for files that do not tell.

    Raises:
        ScanError: for a file that cannot be read, is no single 2D image, is smaller than ``MIN_SIDE``, holds numbers
            that are not finite or one value everywhere.
    """
    path = Path(path)
    if not (_is_image(path) or path.is_dir()):
        raise ScanError(f"{path} is not a radiograph: wanted a file that ends in {', '.join(SUFFIXES)}")
    check_radiograph(path)
    try:
        pixels, spacing, world = _reader(path)(path)
    except ScanError:
        raise
    except Exception as error:  # every reader has errors of its own
        text = " ".join(str(error).split())[:160] or type(error).__name__
        raise ScanError(f"{path} cannot be read as a radiograph: {text}") from error
    if min(pixels.shape) < MIN_SIDE:
        raise ScanError(
            f"{path} must have at least {MIN_SIDE} pixels a side, got {pixels.shape[0]} x {pixels.shape[1]}"
        )
    if not np.isfinite(pixels).all():
        raise ScanError(f"{path} holds {int((~np.isfinite(pixels)).sum())} pixels that are not finite numbers")
    if pixels.min() == pixels.max():
        raise ScanError(f"{path} holds the value {pixels.flat[0]:g} everywhere: there is nothing to see")
    if spacing is None and spacing_mm is not None:
        spacing = float(spacing_mm[0]), float(spacing_mm[1])
    if spacing is not None and not all(0 < s < np.inf for s in spacing):
        raise ScanError(f"{path} must have pixels of a positive size, got {spacing} mm")
    if world is None:
        sy, sx = spacing or (1.0, 1.0)
        world = np.array([[0, -sx, 0, 0], [-sy, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=np.float64)
    return Radiograph(np.ascontiguousarray(pixels, dtype=np.float32), spacing, world)


def _is_image(path: Path) -> bool:
    return path.is_file() and (path.name.lower().endswith(SUFFIXES) or is_dicom(path))


def _reader(path: Path) -> Callable[[Path], tuple[np.ndarray, tuple[float, float] | None, np.ndarray | None]]:
    if path.is_dir() or is_dicom(path):
        return _read_dicom
    return _read_nifti if path.name.lower().endswith((".nii", ".nii.gz")) else _read_picture


def _read_dicom(path: Path) -> tuple[np.ndarray, tuple[float, float] | None, np.ndarray | None]:
    files = dicom_files(path) if path.is_dir() else [path]
    if len(files) != 1:
        raise ScanError(f"{path} must hold one radiograph, got {len(files)} DICOM files")
    header = read_header(files[0])
    if header.size[2] != 1:
        raise ScanError(f"{files[0]} must be one 2D image, got {header.size[2]} frames")
    pixels = _luminance(read_pixels(files[0]))
    if header.orientation is None or header.position_mm is None:
        return pixels, header.spacing_mm, None
    row, column = header.orientation  # along a row x grows, down a column y
    sy, sx = header.spacing_mm or (1.0, 1.0)
    world = np.eye(4)
    world[:3] = np.stack([column * sy, row * sx, np.cross(row, column), header.position_mm], axis=1)
    return pixels, header.spacing_mm, np.diag([-1.0, -1, 1, 1]) @ world


def _luminance(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.ndim == 2 else pixels[..., :3] @ np.asarray(_LUMINANCE, dtype=np.float32)


def _read_picture(path: Path) -> tuple[np.ndarray, None, None]:
    # The resolution in these files is that of a print and nearly always wrong for the patient.
    try:
        with Image.open(path) as image:
            if getattr(image, "n_frames", 1) != 1:
                raise ScanError(f"{path} must be one picture, got {getattr(image, 'n_frames', 1)} frames")
            if image.mode in ("P", "PA"):
                image = image.convert("RGBA")
            if image.mode == "CMYK":
                image = image.convert("RGB")
            pixels = np.asarray(image, dtype=np.float32)
    except UnidentifiedImageError as error:
        raise ScanError(f"{path} cannot be read as a radiograph: it is no picture that is known here") from error
    if pixels.ndim == 3:
        alpha = pixels[..., -1:] / 255 if pixels.shape[2] in (2, 4) else 1.0
        colours = pixels[..., : 1 if pixels.shape[2] < 3 else 3] * alpha
        pixels = colours[..., 0] if colours.shape[2] == 1 else _luminance(colours)
    return pixels, None, None


def _read_nifti(path: Path) -> tuple[np.ndarray, tuple[float, float] | None, np.ndarray]:
    reader = NibabelReader()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values, meta = reader.get_data(reader.read(str(path)))
    shape = tuple(int(n) for n in values.shape)
    axes = [i for i, n in enumerate(shape) if n > 1]
    if len(axes) != 2 or axes != [0, 1]:
        raise ScanError(f"{path} must be one 2D image, got {len(shape)} axes of sizes {shape}")
    plane = np.asarray(values).reshape(shape[:2])
    if plane.dtype.kind not in "biuf":
        raise ScanError(f"{path} must hold one real number per pixel, got values of type {plane.dtype}")
    affine = np.asarray(meta["affine"], dtype=np.float64)
    world = np.eye(4)
    columns = min(affine.shape[0] - 1, 3)
    world[:columns, :columns], world[:columns, 3] = affine[:columns, :columns], affine[:columns, -1]
    world = world[:, [1, 0, 2, 3]]  # files have (x, y), tensors (y, x)
    spacing = np.linalg.norm(world[:3, :2], axis=0)
    return plane.T.astype(np.float32), (float(spacing[0]), float(spacing[1])), world


class LoadRadiographd(MapTransform):
    """From paths to (1, H, W) images whose affine is ``diag(sy, sx)``, the image's plane in millimetres.

    The plane is all that the later transforms need, however the image lies in the world; ``meta["world"]`` keeps that.
    Unknown spacing counts as 1 mm, and ``meta["spacing_known"]`` tells.

    Args:
        keys: paths.
        spacing_mm: size of a pixel along (y, x) for files that do not tell.
        landmarks_key: path of a landmark file whose spacing is used before ``spacing_mm``, where the item has one.

    Raises:
        ScanError: as :func:`read_radiograph` does.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        spacing_mm: Sequence[float] | None = None,
        landmarks_key: Hashable | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.spacing_mm = spacing_mm
        self.landmarks_key = landmarks_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        spacing = self.spacing_mm
        if self.landmarks_key is not None and self.landmarks_key in d:
            spacing = read_landmarks(d[self.landmarks_key]).spacing_mm or spacing
        for key in self.key_iterator(d):
            path = d[key]
            radiograph = read_radiograph(path, spacing_mm=spacing)
            sy, sx = radiograph.spacing_mm or (1.0, 1.0)
            affine = torch.diag(torch.tensor([sy, sx, 1.0, 1.0], dtype=torch.float64))
            meta = {
                "filename_or_obj": str(path),
                "original_affine": affine.clone(),
                "spatial_shape": np.asarray(radiograph.pixels.shape),
                "spacing_known": radiograph.spacing_mm is not None,
                "world": torch.from_numpy(radiograph.world.astype(np.float64)),
            }
            d[key] = MetaTensor(torch.from_numpy(radiograph.pixels)[None], affine=affine, meta=meta)
        return d
