"""The low band of a CT, and what training aims at."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.transforms import MapTransform
from torch import Tensor

from medsynth_ext import ops

__all__ = ["LOW_PASSES", "HighBandd", "low_pass"]

LOW_PASSES = ("gaussian", "box")


def low_pass(
    volume: Tensor,  # (C, D, H, W)
    *,
    width_mm: float,
    spacing_mm: Sequence[float],
    kind: str = "gaussian",
) -> Tensor:  # (C, D, H, W)
    """Blur a whole volume, its border values going on outside.

    A patch must not be blurred by itself: what lies beside it would be missing, and the target depend on the crop.

    Args:
        volume: the CT.
        width_mm: standard deviation of the Gaussian, or side of the box, whose standard deviation is 0.29 of that.
        spacing_mm: voxel size along every axis.
        kind: ``gaussian`` or ``box``.

    Raises:
        ValueError: for another kind, or a width that is not positive.
    """
    if kind not in LOW_PASSES:
        raise ValueError(f"kind must be one of {', '.join(LOW_PASSES)}, got {kind!r}")
    if not width_mm > 0:
        raise ValueError(f"width_mm must be positive, got {width_mm}")
    voxels = [width_mm / float(h) for h in spacing_mm]
    if kind == "gaussian":
        return ops.gaussian_blur(volume[None].float(), voxels)[0]
    sides = [max(1, round(n)) for n in voxels]
    blurred = volume[None].float()
    pads = [p for n in reversed(sides) for p in ((n - 1) // 2, n // 2)]
    return F.avg_pool3d(F.pad(blurred, pads, mode="replicate"), sides, stride=1)[0]


class HighBandd(MapTransform):
    """Add what the low-pass takes away: ``volume - low_pass(volume)`` under another key.

    Args:
        keys: one volume, a MetaTensor, whose affine tells the voxel size.
        high_key: where the high band goes.
        width_mm: as in :func:`low_pass`.
        kind: likewise.
    """

    def __init__(
        self, keys: KeysCollection, *, high_key: str = "high", width_mm: float = 15.0, kind: str = "gaussian"
    ) -> None:
        super().__init__(keys)
        self.high_key = high_key
        self.width_mm = width_mm
        self.kind = kind

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            volume = result[key]
            if not isinstance(volume, MetaTensor):
                raise TypeError(f"{key} must be a MetaTensor, whose affine tells the voxel size, got {type(volume)}")
            spacing = affine_to_spacing(volume.affine, 3).tolist()
            plain = volume.as_tensor().float()
            low = low_pass(plain, width_mm=self.width_mm, spacing_mm=spacing, kind=self.kind)
            result[self.high_key] = MetaTensor(plain - low, meta=volume.meta)
        return result
