"""Whole label maps from a folder, checked and kept in memory."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from nibabel.filebasedimages import ImageFileError
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

__all__ = ["LabelMaps", "find_label_maps"]

_SUFFIXES = (".nii", ".nii.gz", ".mgz", ".mgh")
_DTYPES = ((torch.uint8, 255), (torch.int16, 2**15 - 1), (torch.int32, 2**31 - 1))


def find_label_maps(folder: str | Path) -> list[dict[str, str]]:
    """All label maps (.nii, .nii.gz, .mgz, .mgh) of a folder by name, as ``[{"label": path}, ...]``."""
    files = sorted(Path(folder).iterdir()) if Path(folder).is_dir() else []
    return [{"label": str(f)} for f in files if f.name.lower().endswith(_SUFFIXES)]


class LabelMaps(Dataset):
    """Label maps turned to RAS; each file is read once.

    Item i is ``{"label": (1, D, H, W) integer tensor, "center": (3,) tensor, "index": i, "path": file}``. The centre is
    the middle of the box around ``center_labels``, in voxels. A file that stands several times in ``data`` is kept
    once. Files are read when first used, or all at once by ``load()``.

    Args:
        data: one ``{"label": path}`` per item; other keys are not used.
        allowed_labels: the label values a map may hold; any when ``None``.
        allowed_from: where a user finds these values, for the error message.
        center_labels: labels whose middle is the centre of a map, for example all of the brain; without them, or in a
            map that has none, it is the middle of the volume.
        spacing_mm: the voxel size that every map must have (within 1 %); any when ``None``.
        source: the folder that ``data`` was made from, for the error message.
        device: where the maps are kept.

    Raises:
        ValueError: on reading, for a file that cannot be read, is not 3D, has another voxel size, values that are no
            integers, or a label that is not allowed; by ``load()`` also when there is no file.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        *,
        allowed_labels: Sequence[int] | None = None,
        allowed_from: str = "the label table",
        center_labels: Sequence[int] | None = None,
        spacing_mm: float | None = 1.0,
        source: str | Path | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.data = list(data)
        self.allowed_labels = None if allowed_labels is None else sorted(set(allowed_labels))
        self.allowed_from = allowed_from
        self.center_labels = [] if center_labels is None else sorted(set(center_labels))
        self.spacing_mm = spacing_mm
        self.source = source
        self.device = torch.device(device)
        self._cache: dict[str, tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path = str(self.data[index]["label"])
        if path not in self._cache:
            labels = self._read(path)
            self._cache[path] = labels.to(self.device), self._center(labels[0])
        labels, center = self._cache[path]
        return {"label": labels, "center": center, "index": index, "path": path}

    def load(self) -> LabelMaps:
        """Read and check all maps now, with a progress bar; returns itself."""
        if not self.data:
            place = "" if self.source is None else f" in {self.source}"
            raise ValueError(f"wanted label maps ({', '.join(_SUFFIXES)}){place}, found none; set labels_dir")
        for index in tqdm(range(len(self)), desc="label maps", leave=False):
            self[index]
        return self

    def _read(self, path: str) -> Tensor:
        try:
            image = nib.as_closest_canonical(nib.load(path))
            values = np.asanyarray(image.dataobj)
        except (OSError, EOFError, ValueError, zlib.error, ImageFileError) as error:
            raise ValueError(f"{path}: cannot be read as a label map ({error})") from error
        while values.ndim > 3 and values.shape[-1] == 1:
            values = values[..., 0]
        if values.ndim != 3:
            raise ValueError(f"{path}: a label map must be 3D, got the shape {values.shape}")
        self._check_spacing(path, image.affine)
        found = np.unique(values)
        fractional = found[~(np.isfinite(found) & (found == np.floor(found)))]
        if fractional.size:
            raise ValueError(f"{path}: labels must be integers, found values such as {fractional[0]:.6g}")
        labels = [int(v) for v in found]
        unknown = sorted(set(labels) - set(labels if self.allowed_labels is None else self.allowed_labels))
        if unknown:
            raise ValueError(
                f"{path}: the labels {unknown} are not among the {len(self.allowed_labels or [])} allowed ones "
                f"(listed in {self.allowed_from})"
            )
        if labels[0] < 0:
            raise ValueError(f"{path}: labels must not be negative, found {labels[0]}")
        dtype = next(dtype for dtype, largest in _DTYPES if labels[-1] <= largest)
        return torch.from_numpy(np.ascontiguousarray(values.astype(np.int64))).to(dtype)[None]

    def _center(self, labels: Tensor) -> Tensor:  # (D, H, W) -> (3,) in voxels
        inside = torch.from_numpy(np.isin(labels.numpy(), self.center_labels)).nonzero()
        if len(inside) == 0:
            return (torch.tensor(labels.shape) - 1) / 2
        return (inside.amin(0) + inside.amax(0)) / 2

    def _check_spacing(self, path: str, affine: np.ndarray) -> None:
        spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
        if self.spacing_mm is not None and not np.all(np.abs(spacing / self.spacing_mm - 1) < 0.01):
            got = " x ".join(f"{s:.4g}" for s in spacing)
            raise ValueError(f"{path}: voxels must be {self.spacing_mm:g} mm in every direction, got {got} mm")
