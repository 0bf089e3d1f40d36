"""Bringing radiographs and their landmarks onto the network's square, and landmarks back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Resize, SpatialPad
from torch import Tensor

from medsynth_ext.data.landmark_files import read_landmarks
from medsynth_ext.data.landmarks import LandmarkFileError

__all__ = ["FitToSquared", "PlaceLandmarksd", "to_original"]


class FitToSquared(MapTransform):
    """Resizes so that the longer side fits a square, keeps the proportions of the patient, and pads with 0.

    The affine keeps track, so that :func:`to_original` finds the way back.

    Args:
        keys: images (C, H, W) with an affine of the plane, see ``LoadRadiographd``.
        size: pixels of the square's side.

    Raises:
        ValueError: for a size that is not a positive multiple of 32.
    """

    def __init__(self, keys: KeysCollection, size: int, *, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        if size < 32 or size % 32:
            raise ValueError(f"size must be a positive multiple of 32, got {size}")
        self.size = size

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            image: MetaTensor = d[key]
            extent = [n * float(image.affine[i, i]) for i, n in enumerate(image.shape[1:])]
            sides = [max(1, round(self.size * e / max(extent))) for e in extent]
            shrinks = any(new < old for new, old in zip(sides, image.shape[1:], strict=True))
            resized = Resize(sides, mode="bilinear", anti_aliasing=shrinks)(image)
            d[key] = SpatialPad((self.size, self.size))(resized)
        return d


class PlaceLandmarksd(MapTransform):
    """From paths of landmark files to (N, 2) index coordinates of the image as it is now; NaN where not visible.

    Args:
        keys: paths.
        names: the landmarks wanted, in this order; the file may hold more.
        image_key: the image.
        allow_missing_keys: leave items without landmarks as they are.

    Raises:
        LandmarkFileError: for a file without one of the names, with other axes or another image size, with points
            outside of the image, or with two points at one place.
    """

    def __init__(
        self,
        keys: KeysCollection,
        names: Sequence[str],
        *,
        image_key: Hashable = "image",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.names = [str(name) for name in names]
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        image = d[self.image_key]
        for key in self.key_iterator(d):
            points = self._read(d[key], [int(n) for n in image.meta["spatial_shape"]])
            plane = points * image.meta["original_affine"].diagonal()[:2]
            d[key] = ((plane - image.affine[:2, 3]) / image.affine.diagonal()[:2]).float()
        return d

    def _read(self, path: Any, size: list[int]) -> Tensor:  # (N, 2) of the original image
        found = read_landmarks(path)
        missing = [name for name in self.names if name not in found.names]
        if missing:
            raise LandmarkFileError(
                f"{path} must hold the {len(self.names)} landmarks {', '.join(self.names)}; it has {len(found.names)}, "
                f"without {', '.join(missing)}"
            )
        if found.index.shape[1] != 2:
            raise LandmarkFileError(f"{path} must hold points (y, x), got {found.index.shape[1]} axes")
        if found.size is not None and list(found.size) != size:
            raise LandmarkFileError(
                f"{path} is for an image of {found.size[0]} x {found.size[1]}, its image has {size[0]} x {size[1]}"
            )
        points = torch.from_numpy(found.index)[[found.names.index(name) for name in self.names]]
        if points.isnan().all():
            raise LandmarkFileError(f"{path} has no visible landmark")
        upper = torch.tensor(size, dtype=points.dtype) - 0.5
        outside = ((points < -0.5) | (points > upper)).any(1)
        if outside.any():
            i = int(outside.nonzero()[0])
            raise LandmarkFileError(
                f"{path}: '{self.names[i]}' lies at y, x = {points[i].tolist()}, outside of the image of {size[0]} x "
                f"{size[1]}; give null for landmarks that are not visible"
            )
        distance = torch.cdist(points[None], points[None])[0] + torch.eye(len(points)) * 1e9
        if (distance < 1e-6).any():
            i, j = (distance < 1e-6).nonzero()[0].tolist()
            raise LandmarkFileError(f"{path}: '{self.names[i]}' and '{self.names[j]}' lie at one place")
        return points


def to_original(
    points: Tensor,  # (N, 2) index coordinates of the image as it is now
    image: MetaTensor,  # (C, H, W)
) -> Tensor:  # (N, 2) float64 index coordinates of the file's image
    """The way back through :class:`FitToSquared`."""
    affine = image.affine.detach().cpu().double()
    plane = points.detach().cpu().double() * affine.diagonal()[:2] + affine[:2, 3]
    return plane / torch.as_tensor(image.meta["original_affine"]).detach().cpu().double().diagonal()[:2]
