"""Files of one-shot landmark detection: the annotated volume, the validation volume, and cases to evaluate."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.transforms import Transform
from torch import Tensor

from medsynth_ext.data.landmark_files import read_landmarks
from medsynth_ext.data.landmarks import LandmarkFileError
from medsynth_ext.data.scans import SCAN_SUFFIXES, is_scan, scan_name
from medsynth_ext.methods.oneshot.cubes import sample_cube
from medsynth_ext.methods.oneshot.slices import mask_centre

__all__ = ["CubeAboutMask", "ReadWorldLandmarks", "find_annotated", "find_cases"]


def _one(folder: Path, name: str) -> str:
    found = [path for suffix in (*SCAN_SUFFIXES, "") if is_scan(path := folder / f"{name}{suffix}") and path.exists()]
    if len(found) != 1:
        raise ValueError(
            f"{folder} must hold one file {name}.nii.gz (or .nii, .mgz, .mgh) or a folder {name} of DICOM files, got "
            f"{len(found)}"
        )
    return str(found[0])


def find_annotated(folder: str | os.PathLike, part: str, *, landmarks: bool = False) -> list[dict[str, str]]:
    """``[{"image": ..., "label": ...}]`` from ``folder/part/image.nii.gz`` and ``mask.nii.gz``, with ``landmarks`` too.

    An empty list when there is no such folder, so that a workflow can be built before the data are there.

    Args:
        folder: of the data.
        part: ``reference`` or ``validation``.
        landmarks: whether ``landmarks.json`` has to be there.

    Raises:
        ValueError: for a folder without one of the files.
    """
    place = Path(folder) / part
    if not place.is_dir():
        return []
    item = {"image": _one(place, "image"), "label": _one(place, "mask")}
    if landmarks:
        item["landmarks"] = str(place / "landmarks.json")
        if not (place / "landmarks.json").is_file():
            raise ValueError(f"{place} must hold landmarks.json")
    return [item]


def find_cases(folder: str | os.PathLike) -> list[dict[str, str]]:
    """``images/NAME.nii.gz`` with ``labels/NAME.nii.gz`` and ``landmarks/NAME.json``, in order of name.

    An empty list when there is no image.

    Raises:
        ValueError: for an image without its mask or landmarks.
    """
    root = Path(folder)
    images = sorted(p for p in (root / "images").glob("*") if is_scan(p))
    cases = []
    for image in images:
        name = scan_name(image)
        points = root / "landmarks" / f"{name}.json"
        if not points.is_file():
            raise ValueError(f"{image} has no landmarks: wanted {points}")
        cases.append({"image": str(image), "label": _one(root / "labels", name), "landmarks": str(points)})
    return cases


class CubeAboutMask(Transform):
    """Replaces ``image`` and ``label`` (1, X, Y, Z) by cubes about the label's centre of mass.

    Args:
        size: edge in voxels.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        image, mask = (torch.as_tensor(data[key]).as_subclass(torch.Tensor) for key in ("image", "label"))
        binary = (mask > 0.5).to(torch.uint8)
        centre = mask_centre(binary[0])
        eye = torch.eye(3, dtype=torch.float64)
        cube: Tensor = sample_cube(image[None].float(), centre, eye, self.size)[0]
        outline = sample_cube(binary[None], centre, eye, self.size, mode="nearest")[0]
        return {**data, "image": cube, "label": outline.float()}


class ReadWorldLandmarks(Transform):
    """Replaces the path ``landmarks`` by world positions (N, 3) in millimetres, in the order of the given names.

    Args:
        names: of the landmarks; the file's own order by default.
    """

    def __init__(self, names: Callable[[], Sequence[str]] | None = None) -> None:
        self.names = names

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        path = data["landmarks"]
        points = read_landmarks(path)
        if points.world_mm is None:
            raise LandmarkFileError(f"{path} must hold world_mm for every landmark")
        wanted = list(points.names if self.names is None else self.names())
        missing = [name for name in wanted if name not in points.names]
        if missing:
            raise LandmarkFileError(f"{path} has no landmark {missing[0]!r}, it has {', '.join(points.names)}")
        order = [points.names.index(name) for name in wanted]
        return {**data, "landmarks": torch.from_numpy(points.world_mm[order])}
