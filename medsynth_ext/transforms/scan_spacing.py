"""MONAI's resampling to a voxel size, for items that hold more than images."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import torch
from monai.transforms import Spacingd

__all__ = ["ScanSpacingd"]


class ScanSpacingd(Spacingd):
    """``Spacingd`` that lets an item hold text under names that begin like an image's, for example ``image_path``.

    MONAI 1.6 takes every such entry for the image's meta data and fails; MONAI Label gives its items an ``image_path``.
    """

    def __call__(self, data: Mapping[Hashable, torch.Tensor], lazy: bool | None = None) -> dict[Hashable, torch.Tensor]:
        text = {name: value for name, value in data.items() if isinstance(value, str)}
        images = {name: value for name, value in data.items() if name not in text}
        return {**super().__call__(images, lazy=lazy), **text}
