"""Checks and intensity rules that come before the network."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from torch import Tensor

from medsynth_ext.data.scans import ScanError

__all__ = ["CheckScan", "CheckScand", "ClipCT", "ClipCTd", "looks_like_ct"]


class CheckScan(Transform):
    """Refuse a loaded scan whose voxels cannot be segmented; single non-finite voxels become 0 with a warning.

    Args:
        min_fraction: share of the voxels that must differ from the smallest, and from the largest value, so that
            the percentiles of the intensity scaling are not the same number.
    """

    def __init__(self, *, min_fraction: float = 0.005) -> None:
        self.min_fraction = min_fraction

    def __call__(self, image: Tensor) -> Tensor:  # (1, D, H, W)
        name = image.meta.get("filename_or_obj", "the scan") if isinstance(image, MetaTensor) else "the scan"
        if image.ndim != 4 or image.shape[0] != 1:
            raise ScanError(f"{name} must be one 3-D scan with one value per voxel, got {tuple(image.shape)}")
        if image.numel() == 0:
            raise ScanError(f"{name} has no voxels: its sizes are {tuple(image.shape[1:])}")
        x = image.as_tensor() if isinstance(image, MetaTensor) else image
        finite = torch.isfinite(x)
        if not finite.any():
            raise ScanError(f"{name} has no finite voxel: all {x.numel()} are NaN or infinite")
        if not finite.all():
            bad = int((~finite).sum())
            warnings.warn(f"{name}: {bad} voxels are NaN or infinite and are read as 0", stacklevel=2)
            image = image.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
            x = image.as_tensor() if isinstance(image, MetaTensor) else image
        low, high = x.min(), x.max()
        if low == high:
            raise ScanError(f"{name} is constant: all {x.numel()} voxels are {float(low):g}")
        share = min(float((x > low).float().mean()), float((x < high).float().mean()))
        if share <= self.min_fraction:
            raise ScanError(
                f"{name} is nearly constant: only {100 * share:.3g} % of its voxels differ from the rest, "
                f"wanted more than {100 * self.min_fraction:g} %"
            )
        return image


class CheckScand(MapTransform):
    """Dictionary version of ``CheckScan``."""

    def __init__(self, keys: KeysCollection, *, min_fraction: float = 0.005, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.check = CheckScan(min_fraction=min_fraction)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.check(d[key])
        return d


def looks_like_ct(image: Tensor) -> bool:
    """Whether values can be Hounsfield units: whole numbers that go below -500."""
    return bool(image.min() < -500) and bool((image == image.round()).all())


class ClipCT(Transform):
    """Clip a CT scan to the window of brain tissue; leave other scans alone.

    Args:
        ct: ``True`` for CT, ``False`` for anything else, ``"auto"`` to tell by the values (with a warning).
        window_hu: lower and upper end in HU.
    """

    def __init__(self, ct: bool | str = "auto", *, window_hu: tuple[float, float] = (0.0, 80.0)) -> None:
        if ct not in (True, False, "auto"):
            raise ValueError(f'ct must be true, false or "auto", got {ct!r}')
        if not window_hu[0] < window_hu[1]:
            raise ValueError(f"window_hu must be a lower and a higher value, got {tuple(window_hu)}")
        self.ct = ct
        self.window_hu = tuple(window_hu)

    def __call__(self, image: Tensor) -> Tensor:  # (1, D, H, W)
        if self.ct is False:
            return image
        if self.ct == "auto":
            if not looks_like_ct(image):
                return image
            name = image.meta.get("filename_or_obj", "the scan") if isinstance(image, MetaTensor) else "the scan"
            warnings.warn(
                f"{name} looks like CT and is clipped to {self.window_hu[0]:g} to {self.window_hu[1]:g} HU; "
                "set ct to false if it is not",
                stacklevel=2,
            )
        return image.clamp(*self.window_hu)


class ClipCTd(MapTransform):
    """Dictionary version of ``ClipCT``."""

    def __init__(
        self,
        keys: KeysCollection,
        ct: bool | str = "auto",
        *,
        window_hu: tuple[float, float] = (0.0, 80.0),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.clip = ClipCT(ct, window_hu=window_hu)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.clip(d[key])
        return d
