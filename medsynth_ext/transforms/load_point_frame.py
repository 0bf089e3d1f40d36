"""A frame and its labelled points from files."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from medsynth_ext.data.point_frames import FrameError, labels_of, read_frame, read_points

__all__ = ["LoadPointFramed"]


class LoadPointFramed(MapTransform):
    """Read a picture and, where it has labels, its points; see :mod:`medsynth_ext.data.point_frames`.

    The image becomes a ``MetaTensor`` (3, H, W), float32 in [0, 1], whose affine is the identity: the world is the
    frame as it is stored, and MONAI's spatial transforms keep the affine up to date. The points become (max_points, 2),
    float32 index coordinates ``(y, x)`` of the frame, padded with NaN, so that frames make batches.

    Args:
        keys: paths of pictures.
        points_key: path of the labels.
        max_points: rows of the points.
        beside: where an item names no labels, take those that lie beside the picture in the challenge's layout, if any.

    Raises:
        FrameError: for a file that cannot be used, or with more points than ``max_points``.
    """

    def __init__(
        self, keys: KeysCollection, points_key: Hashable = "points", *, max_points: int = 64, beside: bool = False
    ) -> None:
        super().__init__(keys)
        if max_points < 1:
            raise ValueError(f"max_points must be at least 1, got {max_points}")
        self.points_key = points_key
        self.max_points = max_points
        self.beside = beside

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            path = str(d[key])
            image = read_frame(path)
            meta = {"filename_or_obj": path, "frame_size": tuple(image.shape[1:])}
            d[key] = MetaTensor(image, affine=torch.eye(4, dtype=torch.float64), meta=meta)
            labels = labels_of(path)
            if self.beside and Path(path).parent.name == "images" and labels.is_file():
                d.setdefault(self.points_key, labels)
            if self.points_key in d:
                d[self.points_key] = self._padded(str(d[self.points_key]), image)
        return d

    def _padded(self, path: str, image: Tensor) -> Tensor:
        points = read_points(path, image.shape[1:])
        if len(points) > self.max_points:
            raise FrameError(f"{path} must hold at most {self.max_points} points (max_points), got {len(points)}")
        rows = torch.full((self.max_points, 2), torch.nan)
        rows[: len(points)] = points
        return rows
