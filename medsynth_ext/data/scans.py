"""Finding scans in a folder and saying clearly what is wrong with one."""

from __future__ import annotations

import gzip
import os
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.data import IterableDataset
from torch.utils.data import get_worker_info

from medsynth_ext.data.dicom_files import DICOM_SUFFIXES, dicom_files, is_dicom
from medsynth_ext.data.scan_error import ScanError, one_line

__all__ = ["SCAN_SUFFIXES", "ScanDataset", "ScanError", "check_header", "find_scans", "is_scan", "scan_name"]

SCAN_SUFFIXES = (".nii.gz", ".nii", ".mgz", ".mgh")
_OUTPUT_SUFFIXES = ("_seg", "_post", "_resampled", "_sct", "_sct_low", "_sct_high", "_phigh", "_smr")


def scan_name(path: str | os.PathLike) -> str:
    """Name of a file without folder and image suffix, or of a folder of DICOM files.

    >>> scan_name("/data/case.01.nii.gz"), scan_name("/data/1.2.840.99")
    ('case.01', '1.2.840.99')
    """
    name = Path(path).name
    for suffix in (*SCAN_SUFFIXES, *DICOM_SUFFIXES):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def find_scans(folder: str | os.PathLike) -> list[Path]:
    """All scans of a folder in order of name: NIfTI and MGZ files, and sub-folders that hold DICOM files.

    A folder that holds DICOM files itself is one scan, a path to one file gives that file. Hidden files are left out,
    and what a segmentation run wrote beside its input (``<case>_seg.nii.gz`` where ``<case>`` is there too).

    Raises:
        ScanError: when the folder does not exist or holds no scan, or two scans share a name.
    """
    folder = Path(folder)
    if folder.is_file():
        if not (folder.name.lower().endswith(SCAN_SUFFIXES) or is_dicom(folder)):
            raise ScanError(f"{folder} is not a scan: wanted DICOM or a file that ends in {', '.join(SCAN_SUFFIXES)}")
        return [folder]
    if not folder.is_dir():
        raise ScanError(f"the folder of scans {folder} does not exist")
    files = sorted(p for p in folder.iterdir() if p.name[0] != "." and is_scan(p))
    if slices := dicom_files(folder):
        if files:
            raise ScanError(
                f"{folder} holds DICOM files ({slices[0].name}) and other scans ({files[0].name}): wanted every DICOM "
                "series in a folder of its own"
            )
        return [folder.resolve()]  # "." has no name
    names = {scan_name(p) for p in files}
    outputs = {name + suffix for name in names for suffix in _OUTPUT_SUFFIXES}
    files = [p for p in files if scan_name(p) not in outputs]
    if not files:
        raise ScanError(
            f"no scan in {folder}: wanted files that end in {', '.join(SCAN_SUFFIXES)}, or folders of DICOM files"
        )
    seen: dict[str, Path] = {}
    for path in files:
        other = seen.setdefault(scan_name(path), path)
        if other is not path:
            raise ScanError(f"{other.name} and {path.name} in {folder} would give results of the same name; rename one")
    return files


def is_scan(path: Path) -> bool:
    """Whether a path is a NIfTI or MGZ file, by its ending, or a folder that holds DICOM files."""
    if path.name.lower().endswith(SCAN_SUFFIXES):
        return True
    return path.is_dir() and any(is_dicom(file) for file in sorted(path.iterdir()))


def check_header(path: str | os.PathLike) -> None:
    """Check what can be told without reading the voxels: format, number of axes, sizes, spacing, kind of values.

    DICOM is left to its reader, which looks at the headers of all slices before it reads one.

    Raises:
        ScanError: with one sentence.
    """
    path = Path(path)
    if path.is_dir() or is_dicom(path):
        return
    try:
        if path.stat().st_size == 0:
            raise ScanError(f"{path} is not a NIfTI or MGZ scan: the file is empty (0 bytes)")
        spacing = _stored_spacing(path)
        image: Any = nib.load(path)
    except (OSError, EOFError, zlib.error, nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError) as e:
        raise ScanError(f"{path} cannot be read as a NIfTI or MGZ scan: {one_line(e)}") from e
    shape = image.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise ScanError(f"{path} must be one 3-D scan, got {len(shape)} axes of sizes {tuple(map(int, shape))}")
    if min(shape) < 1:
        raise ScanError(f"{path} has no voxels: its sizes are {tuple(map(int, shape))}")
    if spacing is None:
        spacing = np.asarray(image.header.get_zooms()[:3], dtype=float)
    with np.errstate(invalid="ignore", over="ignore"):
        columns = np.linalg.norm(np.asarray(image.affine, dtype=float)[:3, :3], axis=0)
    for name, values in (("voxel spacing", spacing), ("voxel spacing of the affine", columns)):
        if not (np.isfinite(values).all() and (values > 0).all()):
            raise ScanError(f"{path} has a {name} of {tuple(float(v) for v in values)} mm: wanted positive numbers")
    if not np.isfinite(image.affine).all() or abs(np.linalg.det(image.affine[:3, :3] / columns)) < 1e-3:
        raise ScanError(f"{path} has an affine that is not a grid in space: {np.asarray(image.affine).tolist()}")
    kind = np.dtype(image.get_data_dtype())
    if kind.fields is not None or kind.kind not in "biuf":
        raise ScanError(f"{path} must hold one real number per voxel, got values of type {kind}")


def _stored_spacing(path: Path) -> np.ndarray | None:
    """The spacing as a NIfTI file states it (nibabel replaces zeros by ones when it loads), None for other formats."""
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        return None
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    with opener(path, "rb") as file:
        for header in (nib.Nifti1Header, nib.Nifti2Header):
            file.seek(0)
            start = file.read(header.template_dtype.itemsize)
            if len(start) == header.template_dtype.itemsize and header.may_contain_header(start):
                return np.abs(np.asarray(header(start, check=False)["pixdim"][1:4], dtype=float))
    return None


def _root(error: BaseException) -> BaseException:
    """The error that started a chain of errors, or the first ScanError in it."""
    while not isinstance(error, ScanError):
        origin = error.__cause__ or error.__context__
        if origin is None:
            break
        error = origin
    return error


class ScanDataset(IterableDataset):
    """Loads and transforms every scan of a folder, one after the other; a bad scan is noted and left out.

    The folder is looked at when it is first needed, so a workflow can be built before the data are there.

    Args:
        folder: where the scans are, or one file.
        transform: MONAI transform of ``{"image": path}``.
        find: from the folder to the paths of its scans.
        check: looks at a file before it is read; raises ``ScanError``.
        kind: what the files should be, for the sentence about one that cannot be read.

    Attributes:
        failures: path and sentence of every scan that could not be used in the last pass.
        on_failure: called with path and sentence as soon as a scan fails.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        transform: Callable[[dict], Any] | None = None,
        *,
        find: Callable[[str | os.PathLike], list[Path]] = find_scans,
        check: Callable[[str | os.PathLike], None] = check_header,
        kind: str = "NIfTI or MGZ scan",
    ) -> None:
        super().__init__(data=(), transform=transform)
        self.folder = folder
        self.find = find
        self.check = check
        self.kind = kind
        self.failures: list[tuple[Path, str]] = []
        self.on_failure: Callable[[Path, str], None] | None = None
        self._files: list[Path] | None = None

    @property
    def files(self) -> list[Path]:
        if self._files is None:
            self._files = self.find(self.folder)
        return self._files

    def __iter__(self) -> Iterator[Any]:
        if get_worker_info() is not None:
            raise RuntimeError("ScanDataset notes failures in its own process; use a DataLoader with num_workers=0")
        self.failures = []
        for path in self.files:
            try:
                self.check(path)
                item: Any = {"image": str(path)}
                if self.transform is not None:
                    item = self.transform(item)
            except (ScanError, OSError, EOFError, zlib.error) as error:
                self._fail(path, error)
                continue
            except RuntimeError as error:  # MONAI wraps what a transform raises
                if not isinstance(_root(error), (ScanError, OSError, EOFError, zlib.error, ValueError)):
                    raise
                self._fail(path, error)
                continue
            yield item

    def _fail(self, path: Path, error: BaseException) -> None:
        root = _root(error)
        if isinstance(root, ScanError):
            sentence = str(root)
        else:
            sentence = f"{path} cannot be read as a {self.kind}: {one_line(root)}"
        self.failures.append((path, sentence))
        if self.on_failure is None:
            warnings.warn(sentence, stacklevel=3)
        else:
            self.on_failure(path, sentence)
