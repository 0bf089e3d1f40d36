"""CT reconstructed again with a given kernel."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_tensor
from torch import Tensor

from medsynth_ext import ops

__all__ = ["FBPAug", "FBPAugd", "check_ct"]

_SLICES_AT_ONCE = 16


def check_ct(image: Tensor) -> None:
    """Raise ``ValueError`` unless the values can be those of a CT in HU: finite, with air or lung, in range."""
    low, high = (float(value) for value in image.aminmax()) if image.numel() else (0.0, 0.0)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"image must be finite, got values from {low:g} to {high:g}")
    where = f"got values from {low:g} to {high:g}"
    if high - low < 50:
        raise ValueError(f"image must be CT in HU, {where}: it is scaled or constant; put the transform before scaling")
    if low > -500:
        raise ValueError(
            f"image must be CT in HU with air (about -1000), {where}: MR, a window without air, or values without "
            "rescale intercept; for crops that hold no air set check_units=False"
        )
    if low < -10000 or high > 40000:
        raise ValueError(f"image must be CT in HU, {where}: apply the rescale slope and intercept first")


def slice_spacing_mm(image: Tensor, axis: int) -> float:
    """Pixel size in the slices across spatial ``axis`` from the image's affine; 1 for plain tensors.

    Raises:
        ValueError: when the pixels are not square.
    """
    if not isinstance(image, MetaTensor):
        return 1.0
    sizes = [float(s) for s in torch.as_tensor(image.affine)[:3, :3].double().norm(dim=0)]
    if image.ndim == 4:
        del sizes[axis]
    if abs(sizes[0] - sizes[1]) > 0.02 * sizes[0]:
        raise ValueError(
            f"slices must have square pixels, got {sizes[0]:g} x {sizes[1]:g} mm; resample them or set spacing_mm"
        )
    return sum(sizes[:2]) / 2


class FBPAug(Transform):
    """Reconstruct CT slices again with the kernel ``R (1 + a R^b)`` (Saparov et al., DALI 2021).

    Volumes are taken slice by slice. With a in [-1, 0] it smooths, with a in 10 to 40 it sharpens.

    Args:
        a: strength.
        b: exponent, positive.
        views: angles; ``None`` for as many as the longer side of the slice has pixels, a float for that share of them.
        mode: ``rotate_bilinear`` (the method's), ``joseph`` (sharper) or ``fft2`` (quick), see
            :func:`medsynth_ext.ops.kernel_augment`.
        circle: what lies outside the inscribed circle of a slice becomes air; otherwise it is padded to its diagonal.
        air_zero: air is exactly zero inside the chain; otherwise, as in the method's code, a little above.
        preserve_hu: keep the HU of large regions.
        slice_axis: spatial axis across the slices of a volume; the last one for axial slices as MONAI loads them.
        spacing_mm: pixel size of the slices; ``None`` takes it from the image's affine (1 where there is none).
        reference_spacing_mm: pixel size that a and b refer to.
        check_units: refuse images that cannot be CT in HU with air.

    Raises:
        ValueError: for another mode, views that are not positive, a slice axis that is not there, and for images as
            :func:`check_ct` says.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012

    def __init__(
        self,
        a: float,
        b: float,
        *,
        views: float | None = None,
        mode: str = "rotate_bilinear",
        circle: bool = True,
        air_zero: bool = False,
        preserve_hu: bool = False,
        slice_axis: int = -1,
        spacing_mm: float | None = None,
        reference_spacing_mm: float = 1.0,
        check_units: bool = True,
    ) -> None:
        if mode not in ("rotate_bilinear", "joseph", "fft2"):
            raise ValueError(f"mode must be rotate_bilinear, joseph or fft2, got {mode!r}")
        if views is not None and views <= 0:
            raise ValueError(f"views must be positive, got {views}")
        if not -3 <= slice_axis < 3:
            raise ValueError(f"slice_axis must be one of three spatial axes, got {slice_axis}")
        if not b > 0:
            raise ValueError(f"b must be positive, got {b}")
        self.a, self.b = a, b
        self.views = views
        self.mode = mode
        self.circle = circle
        self.air_zero = air_zero
        self.preserve_hu = preserve_hu
        self.slice_axis = slice_axis % 3
        self.spacing_mm = spacing_mm
        self.reference_spacing_mm = reference_spacing_mm
        self.check_units = check_units

    def slices(self, size: tuple[int, ...]) -> int:
        """Slices of an image of this spatial size."""
        return 1 if len(size) == 2 else size[self.slice_axis]

    def apply(
        self,
        image: Tensor,  # (C, H, W) or (C, D, H, W) HU
        a: Tensor,  # (slices,)
        b: Tensor,  # (slices,)
        *,
        spacing_mm: float | None = None,
    ) -> Tensor:
        """Act on plain values with one kernel per slice; slices with ``a`` NaN stay as they are."""
        if self.check_units:
            check_ct(image)
        moved = image[:, None] if image.ndim == 3 else image.movedim(self.slice_axis + 1, 1)  # (C, slices, H, W)
        result = moved.to(torch.promote_types(image.dtype, torch.float32), copy=True)
        spacing = self.spacing_mm or spacing_mm or 1.0
        longest = max(moved.shape[2:])
        views = longest if self.views is None else self.views
        views = max(1, round(views * longest)) if isinstance(views, float) else views
        for part in torch.nonzero(~torch.isnan(a))[:, 0].split(_SLICES_AT_ONCE):
            for channel in result:
                channel[part.to(channel.device)] = ops.kernel_augment(
                    channel[part.to(channel.device)],
                    a[part],
                    b[part],
                    views=views,
                    mode=self.mode,
                    circle=self.circle,
                    offset_hu=ops.AIR_ZERO_HU if self.air_zero else ops.WATER_AIR_HU,
                    spacing_mm=spacing,
                    reference_spacing_mm=self.reference_spacing_mm,
                    preserve_hu=self.preserve_hu,
                )
        back = result[:, 0] if image.ndim == 3 else result.movedim(1, self.slice_axis + 1)
        return back.to(image.dtype if image.is_floating_point() else torch.float32).contiguous()

    def __call__(self, image: Tensor) -> Tensor:
        tensor = convert_to_tensor(image, track_meta=True)
        if tensor.ndim not in (3, 4):
            raise ValueError(f"image must be (C, H, W) or (C, D, H, W), got {tuple(tensor.shape)}")
        count = self.slices(tuple(tensor.shape[1:]))
        a, b = torch.full((count,), float(self.a)), torch.full((count,), float(self.b))
        spacing = self.spacing_mm or slice_spacing_mm(tensor, self.slice_axis)
        values = self.apply(tensor.as_tensor(), a, b, spacing_mm=spacing)
        return tensor.__class__(values, meta=tensor.meta, applied_operations=tensor.applied_operations)


class FBPAugd(MapTransform):
    """Dictionary version of ``FBPAug``; further arguments as there."""

    backend = FBPAug.backend

    def __init__(
        self, keys: KeysCollection, a: float, b: float, *, allow_missing_keys: bool = False, **options: Any
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = FBPAug(a, b, **options)

    def __call__(self, data: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.transform(result[key])
        return result
