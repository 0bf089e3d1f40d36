"""Landmarks as an image, for programs that can show nothing else."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from medsynth_ext.data.landmarks import Landmarks

__all__ = ["LandmarkDiscsd"]


class LandmarkDiscsd(MapTransform):
    """From located points to an image of numbered discs on the grid of the file, the first landmark's with 1.

    MONAI Label writes an image whatever a bundle predicts, with the size and the affine that the input's meta data
    tell: the input gets those of the file as other programs read it, ``(x, y, 1)`` voxels and their place in the world.

    Args:
        keys: what becomes the image (1, W, H, 1) uint8; the points are ``landmarks`` beside it, see ``SaveLandmarksd``.
        image_key: the input.
        radius: of a disc as a share of the longer side; not below one pixel.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        image_key: Hashable = "image",
        radius: float = 0.012,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_key = image_key
        self.radius = radius

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        landmarks: Landmarks = d["landmarks"]
        image: MetaTensor = d[self.image_key]
        affine = torch.as_tensor(image.meta["world"]).cpu().double()[:, [1, 0, 2, 3]]  # from (y, x) to (x, y)
        discs = torch.from_numpy(self._draw(landmarks.index, [int(n) for n in image.meta["spatial_shape"]]))
        meta = {**image.meta, "spatial_shape": np.asarray(discs.shape), "original_affine": affine}
        d[self.image_key] = MetaTensor(image.as_tensor(), meta=meta)
        for key in self.key_iterator(d):
            d[key] = MetaTensor(discs[None], affine=affine)
        return d

    def _draw(self, points: np.ndarray, size: list[int]) -> np.ndarray:  # (W, H, 1)
        y, x = np.ogrid[: size[0], : size[1]]
        numbers = np.zeros(size, dtype=np.uint8)
        radius = max(1.0, self.radius * max(size))
        for number, (row, column) in enumerate(points, start=1):
            numbers[(y - row) ** 2 + (x - column) ** 2 <= radius**2] = number  # nowhere for NaN
        return np.ascontiguousarray(numbers.T[..., None])
