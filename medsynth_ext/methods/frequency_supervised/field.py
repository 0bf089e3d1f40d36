"""A scan's field of view beside the training's: a crop to it, and a warning where the body reaches further."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data.utils import affine_to_spacing
from monai.transforms import Crop, Cropd, MapTransform
from skimage.filters import threshold_otsu
from torch import Tensor

__all__ = ["CheckFieldd", "CropToFieldd", "FieldOfViewWarning", "body_extent_mm"]

_AXES = ("right-left", "front-back", "head-feet")
_OTSU_SHARE = 0.5  # the dark half of tissue lies below Otsu's threshold
_LEAST_SHARE = 0.01


class FieldOfViewWarning(UserWarning):
    """A scan shows more than the network has been trained on."""


def _body_planes(image: Tensor) -> list[tuple[int, int]]:
    """Along every axis, the first and one past the last plane of which more than one percent is bright."""
    values = np.asarray(image[0], dtype=np.float32)
    low = float(np.percentile(values, 1))
    bright = values > low + _OTSU_SHARE * (threshold_otsu(values) - low) if np.ptp(values) > 0 else values > low
    found = []
    for axis in range(3):
        planes = np.flatnonzero(bright.mean(tuple(a for a in range(3) if a != axis)) > _LEAST_SHARE)
        found.append((int(planes[0]), int(planes[-1]) + 1) if planes.size else (0, 0))
    return found


def body_extent_mm(
    image: Tensor,  # (1, D, H, W), RAS
    spacing_mm: Sequence[float],
) -> list[float]:
    """How far the body reaches along every axis: the planes of which more than one percent is bright."""
    planes = _body_planes(image)
    return [float(spacing) * (last - first) for (first, last), spacing in zip(planes, spacing_mm, strict=True)]


class CropToFieldd(Cropd):
    """Crop a head to the field of view of the training: air that surrounds it goes, and what lies below it.

    Right-left and front-back the field lies around the body's middle, and a wider body stays whole. Head-feet it
    reaches down from the body's top. An axis that is not longer than the field stays. The inverse puts zeros around.

    Put it behind the turning to RAS and the resampling, before intensities are normalised: a volume's mean and
    deviation depend on how much air it holds.

    Args:
        keys: MR volumes, MetaTensors.
        field_mm: field of view of the training along right-left, front-back and head-feet.
    """

    def __init__(self, keys: KeysCollection, *, field_mm: Sequence[float]) -> None:
        super().__init__(keys, _CropToField(field_mm))


class _CropToField(Crop):
    def __init__(self, field_mm: Sequence[float]) -> None:
        super().__init__()
        self.field_mm = tuple(float(f) for f in field_mm)

    def __call__(self, img: Any, lazy: bool | None = None) -> Any:  # type: ignore[override]
        return super().__call__(img, self._slices(img), lazy=lazy)

    def _slices(self, image: Any) -> tuple[slice, ...]:
        spacing = affine_to_spacing(image.affine, 3).tolist()
        slices = []
        for axis, (first, last) in enumerate(_body_planes(torch.as_tensor(image))):
            size = image.shape[axis + 1]
            wanted = round(self.field_mm[axis] / spacing[axis])
            if axis == 2:
                start = last - wanted
            else:
                wanted = max(wanted, last - first)
                start = (first + last - wanted) // 2
            start = max(0, min(start, size - wanted))
            slices.append(slice(start, min(size, start + wanted)))
        return tuple(slices)


class CheckFieldd(MapTransform):
    """Warn with a ``FieldOfViewWarning`` when the body reaches further than in training.

    Put it behind the turning to RAS.

    Args:
        keys: MR volumes, MetaTensors.
        field_mm: field of view of the training along right-left, front-back and head-feet.
        cropped: ``CropToFieldd`` follows. Without it, air that reaches further is no better, and the warning names it.
        tolerance: what may be more, as a share.
    """

    def __init__(
        self, keys: KeysCollection, *, field_mm: Sequence[float], cropped: bool = True, tolerance: float = 0.1
    ) -> None:
        super().__init__(keys)
        self.field_mm = tuple(float(f) for f in field_mm)
        self.cropped = cropped
        self.tolerance = tolerance

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(dict(data)):
            image = data[key]
            spacing = affine_to_spacing(image.affine, 3).tolist()
            body = self._beyond(body_extent_mm(torch.as_tensor(image), spacing))
            grid = self._beyond([n * h for n, h in zip(image.shape[1:], spacing, strict=True)])
            if not body and (self.cropped or not grid):
                continue
            what = "of the body" if body else "air around the body"
            cut = self.cropped and _AXES[2] in body
            advice = (
                "what lies below is left as air" if cut else "do not trust the synthetic CT there, or crop the scan"
            )
            warnings.warn(
                f"{image.meta.get('filename_or_obj', key)} shows more {what} than the training did: "
                f"{', '.join((body or grid).values())}; {advice}",
                FieldOfViewWarning,
                stacklevel=2,
            )
        return dict(data)

    def _beyond(self, extents_mm: Sequence[float]) -> dict[str, str]:
        return {
            name: f"{name} {extent:.0f} mm (trained on {field:.0f})"
            for name, extent, field in zip(_AXES, extents_mm, self.field_mm, strict=True)
            if extent > field * (1 + self.tolerance)
        }
