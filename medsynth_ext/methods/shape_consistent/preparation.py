"""What happens to volumes between the file and the networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monai.transforms import (
    CenterSpatialCropd,
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    Orientationd,
    ScaleIntensityRanged,
    ScaleIntensityRangePercentilesd,
    Spacingd,
    SpatialPadd,
)

from medsynth_ext.data import ScanReader
from medsynth_ext.transforms import CheckModalityd, CheckSameGridd

__all__ = ["volume_preparation"]


def volume_preparation(
    images: Mapping[str, str],
    labels: Sequence[str] = (),
    *,
    spacing_mm: float,
    size: Sequence[int],
    ct_window_hu: Sequence[float],
    mr_percentiles: Sequence[float],
) -> Compose:
    """Load, turn to RAS, resample, crop around the middle, scale to [-1, 1], pad.

    CT is clipped to a window, MR to percentiles of what the crop leaves, as an inference has them. A volume that looks
    like the other modality gives a warning that names its file; one that is not on the grid of its labels is refused.
    Beyond a volume, images are -1 and labels 0.

    Args:
        images: key of every image, and its modality, ``CT`` or ``MR``.
        labels: keys of label maps, named as their images with ``label`` for ``image``; one that a case lacks is left
            out.
        spacing_mm: voxel size along every axis.
        size: voxels after cropping.
        ct_window_hu: what becomes -1 and 1 in CT.
        mr_percentiles: likewise in MR.

    Raises:
        ValueError: for another modality.
    """
    if not set(images.values()) <= {"CT", "MR"}:
        raise ValueError(f"images must be CT or MR, got {dict(images)}")
    keys = [*images, *labels]
    maybe: dict[str, Any] = {"allow_missing_keys": bool(labels)}
    ct, mr = ([key for key, kind in images.items() if kind == modality] for modality in ("CT", "MR"))
    modes = ["bilinear"] * len(images) + ["nearest"] * len(labels)
    pairs = [(key, key.replace("image", "label")) for key in images if key.replace("image", "label") in labels]
    scaled: dict[str, Any] = {"b_min": -1.0, "b_max": 1.0, "clip": True}
    return Compose(
        [
            LoadImaged(keys, reader=ScanReader, **maybe),
            EnsureChannelFirstd(keys, **maybe),
            *(CheckModalityd(key, modality) for key, modality in images.items()),
            *(CheckSameGridd(pair, allow_missing_keys=True) for pair in pairs),
            Orientationd(keys, axcodes="RAS", labels=None, **maybe),
            Spacingd(keys, pixdim=(spacing_mm,) * 3, mode=modes, padding_mode="border", **maybe),
            CenterSpatialCropd(keys, tuple(size), **maybe),
            *(ScaleIntensityRanged(k, a_min=ct_window_hu[0], a_max=ct_window_hu[1], **scaled) for k in ct),
            *(ScaleIntensityRangePercentilesd(k, mr_percentiles[0], mr_percentiles[1], **scaled) for k in mr),
            *(SpatialPadd(k, tuple(size), mode="constant", value=-1.0) for k in images),
            *(SpatialPadd(k, tuple(size), mode="constant", value=0.0, **maybe) for k in labels),
        ]
    )
