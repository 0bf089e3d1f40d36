"""A check that images that belong together lie on one grid."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform

from medsynth_ext.data.scans import ScanError

__all__ = ["CheckSameGridd"]


class CheckSameGridd(MapTransform):
    """Refuse images of one case that differ in size or place; the sentence names both files.

    Args:
        keys: channel-first MetaTensors.
        tolerance_mm: up to which the corners of the grids may differ.
        allow_missing_keys: pass over missing keys.
    """

    def __init__(self, keys: KeysCollection, *, tolerance_mm: float = 0.1, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.tolerance_mm = tolerance_mm

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        first, *others = (result[key] for key in self.key_iterator(result))
        for other in others:
            names = [str(image.meta.get("filename_or_obj", "an image")) for image in (first, other)]
            sizes = [tuple(image.shape[1:]) for image in (first, other)]
            if sizes[0] != sizes[1]:
                raise ScanError(
                    f"{names[1]} has {sizes[1]} voxels and {names[0]} has {sizes[0]}: register both and resample them "
                    "to one grid"
                )
            apart = np.abs(self._corners(first) - self._corners(other)).max()
            if not apart <= self.tolerance_mm:
                raise ScanError(
                    f"the grids of {names[1]} and {names[0]} lie up to {apart:.1f} mm apart: register both and "
                    "resample them to one grid"
                )
        return result

    @staticmethod
    def _corners(image: Any) -> np.ndarray:  # (2**axes, axes) mm
        axes = image.ndim - 1
        ends = np.stack(np.meshgrid(*[[0, n - 1] for n in image.shape[1:]], indexing="ij"), -1).reshape(-1, axes)
        affine = np.asarray(image.affine, dtype=float)[:axes]
        return ends @ affine[:, :axes].T + affine[:, -1]
