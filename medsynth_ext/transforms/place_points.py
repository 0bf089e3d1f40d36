"""Points of a frame on the grid that the frame's picture has become."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform
from torch import Tensor

from medsynth_ext.transforms._landmark_space import world_to_voxels

__all__ = ["PlacePointsd", "without_outside"]


def without_outside(points: Tensor, size: tuple[int, ...]) -> Tensor:  # (..., 2) both
    """NaN in place of points more than half a pixel beyond the outer pixels' centres.

    >>> import torch
    >>> without_outside(torch.tensor([[-0.5, 3.0], [1.0, 3.6]]), (4, 4)).isnan().all(-1).tolist()
    [False, True]
    """
    limits = points.new_tensor(size) - 0.5
    inside = ((points >= -0.5) & (points <= limits)).all(-1, keepdim=True)
    return points.masked_fill(~inside, float("nan"))


class PlacePointsd(MapTransform):
    """From a frame's own pixels to index coordinates of its picture after spatial transforms, by the affine.

    Points that are outside then become NaN.

    Args:
        keys: points (K, 2) in pixels of the frame as it is stored.
        image_key: the picture, a ``MetaTensor`` (C, H, W).
    """

    def __init__(self, keys: KeysCollection = "points", image_key: Hashable = "image") -> None:
        super().__init__(keys)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        image = d[self.image_key]
        for key in self.key_iterator(d):
            placed = world_to_voxels(d[key], image, str(self.image_key))
            d[key] = without_outside(placed, tuple(image.shape[1:])).to(d[key].dtype)
        return d
