"""A warning where a scan shows more of the body than the training did."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data.utils import affine_to_spacing
from monai.transforms import MapTransform
from skimage.filters import threshold_otsu
from torch import Tensor

__all__ = ["CheckFieldd", "FieldOfViewWarning", "body_extent_mm"]

_AXES = ("right-left", "front-back", "head-feet")
_OTSU_SHARE = 0.5  # the dark half of tissue lies below Otsu's threshold
_LEAST_SHARE = 0.01


class FieldOfViewWarning(UserWarning):
    """A scan shows more than the network has been trained on."""


def body_extent_mm(
    image: Tensor,  # (1, D, H, W), RAS
    spacing_mm: Sequence[float],
) -> list[float]:
    """How far the body reaches along every axis: the planes of which more than one percent is bright."""
    values = np.asarray(image[0], dtype=np.float32)
    low = float(np.percentile(values, 1))
    bright = values > low + _OTSU_SHARE * (threshold_otsu(values) - low) if np.ptp(values) > 0 else values > low
    extents = []
    for axis, spacing in enumerate(spacing_mm):
        planes = np.flatnonzero(bright.mean(tuple(a for a in range(3) if a != axis)) > _LEAST_SHARE)
        extents.append(float(spacing) * (planes[-1] - planes[0] + 1) if planes.size else 0.0)
    return extents


class CheckFieldd(MapTransform):
    """Warn with a ``FieldOfViewWarning`` when the body, or the air around it, reaches further than in training.

    Put it behind the turning to RAS.

    Args:
        keys: MR volumes, MetaTensors.
        field_mm: field of view of the training along right-left, front-back and head-feet.
        tolerance: what may be more, as a share.
    """

    def __init__(self, keys: KeysCollection, *, field_mm: Sequence[float], tolerance: float = 0.1) -> None:
        super().__init__(keys)
        self.field_mm = tuple(float(f) for f in field_mm)
        self.tolerance = tolerance

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(dict(data)):
            image = data[key]
            spacing = affine_to_spacing(image.affine, 3).tolist()
            body = self._beyond(body_extent_mm(torch.as_tensor(image), spacing))
            grid = self._beyond([n * h for n, h in zip(image.shape[1:], spacing, strict=True)])
            if body or grid:
                what = "of the body" if body else "air around the body"
                warnings.warn(
                    f"{image.meta.get('filename_or_obj', key)} shows more {what} than the training did: "
                    f"{', '.join(body or grid)}; do not trust the synthetic CT there, or crop the scan",
                    FieldOfViewWarning,
                    stacklevel=2,
                )
        return dict(data)

    def _beyond(self, extents_mm: Sequence[float]) -> list[str]:
        return [
            f"{name} {extent:.0f} mm (trained on {field:.0f})"
            for name, extent, field in zip(_AXES, extents_mm, self.field_mm, strict=True)
            if extent > field * (1 + self.tolerance)
        ]
