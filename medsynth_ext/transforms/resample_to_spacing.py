"""Resampling to a voxel spacing with the field of view kept."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.transforms import InvertibleTransform, MapTransform, SpatialResample
from torch import Tensor

from medsynth_ext import ops

__all__ = ["ResampleToSpacing", "ResampleToSpacingd"]


class ResampleToSpacing(InvertibleTransform):
    """Resample a channel-first image linearly to a voxel spacing; its field of view starts at the same corner.

    An axis whose spacing is within ``tolerance`` of the target keeps its voxels. An axis that gets fewer voxels is
    blurred first with a Gaussian of ``prefilter * target / spacing`` of its voxels, which keeps fine detail from
    folding. Outside the old voxel centres the border value goes on.

    MONAI's ``Spacing(scale_extent=True)`` has the same aim, but takes the sign of the new origin from the old one, so
    images that begin near the scanner's centre are moved; ``Spacing()`` aligns voxel centres and cuts or adds up to
    half a voxel at the rim.

    Args:
        spacing_mm: wanted spacing, one number or one per axis in tensor-axis order.
        tolerance: relative difference up to which an axis stays as it is.
        prefilter: width of the blur before down-sampling, 0 for none.
    """

    def __init__(
        self, spacing_mm: float | Sequence[float], *, tolerance: float = 0.05, prefilter: float = 0.25
    ) -> None:
        self.spacing_mm = spacing_mm
        self.tolerance = tolerance
        self.prefilter = prefilter
        values = np.atleast_1d(np.asarray(spacing_mm, dtype=float))
        if not (np.isfinite(values).all() and (values > 0).all()):
            raise ValueError(f"spacing_mm must be positive numbers, got {spacing_mm}")
        if tolerance < 0 or prefilter < 0:
            raise ValueError(f"tolerance and prefilter must not be negative, got {tolerance} and {prefilter}")
        self.resample = SpatialResample(mode="bilinear", padding_mode="border", align_corners=True, dtype=np.float32)

    def __call__(self, image: Tensor) -> Tensor:  # (C, *S) to (C, *T)
        if not isinstance(image, MetaTensor):
            raise TypeError(f"image must be a MetaTensor, whose affine tells the spacing, got {type(image).__name__}")
        axes = image.ndim - 1
        affine = image.affine.detach().cpu().numpy().astype(float)
        old = affine_to_spacing(affine, axes)
        new = np.broadcast_to(np.asarray(self.spacing_mm, dtype=float), (axes,)).copy()
        stays = np.abs(old / new - 1) <= self.tolerance
        new[stays] = old[stays]
        factor = new / old  # new voxel in old voxels
        if self.prefilter and (factor > 1).any():
            sigma = torch.tensor([self.prefilter * f if f > 1 else 0.0 for f in factor], dtype=torch.float32)
            blurred = ops.gaussian_blur(image.as_tensor()[None].float(), sigma)[0]
            image = MetaTensor(blurred, meta=image.meta, applied_operations=image.applied_operations)
        # 1e-3 voxel of rounding in the header must not add a voxel
        size = [max(1, math.ceil(n / f - 1e-3)) for n, f in zip(image.shape[1:], factor, strict=True)]
        grid = np.eye(axes + 1)
        grid[:axes, :axes] = np.diag(factor)
        grid[:axes, axes] = 0.5 * (factor - 1)
        return self.resample(image.float(), dst_affine=torch.from_numpy(affine @ grid), spatial_size=size)

    def inverse(self, image: Tensor) -> Tensor:
        return self.resample.inverse(image)


class ResampleToSpacingd(MapTransform, InvertibleTransform):
    """Dictionary version of ``ResampleToSpacing``."""

    def __init__(
        self,
        keys: KeysCollection,
        spacing_mm: float | Sequence[float],
        *,
        tolerance: float = 0.05,
        prefilter: float = 0.25,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.resample = ResampleToSpacing(spacing_mm, tolerance=tolerance, prefilter=prefilter)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.resample(d[key])
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.resample.inverse(d[key])
        return d
