"""CT with another reconstruction kernel, drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from torch import Tensor

from medsynth_ext.transforms._random_image import RandImageTransform, RandImageTransformd
from medsynth_ext.transforms.fbpaug import FBPAug, slice_spacing_mm

__all__ = ["RandFBPAug", "RandFBPAugd"]

Range = tuple[float, float]


class RandFBPAug(RandImageTransform):
    """Reconstruct CT in HU again with a random kernel ``R (1 + a R^b)`` (Saparov et al., DALI 2021).

    With ``sharpen_prob`` the kernel sharpens, a uniform in ``sharpen_a`` and b in ``sharpen_b``, else it smooths, with
    ``smooth_a`` and ``smooth_b``. Put it behind resampling and before windowing. A volume gets one kernel, as a scan
    has, or with ``per_slice`` a draw for every slice. :meth:`batch` acts on a batch on its device.

    Args:
        prob: probability of acting, per image, or per slice with ``per_slice``.
        sharpen_prob: probability of a sharp kernel; 0 only smooths, 1 only sharpens.
        smooth_a: range of a.
        smooth_b: range of b.
        sharpen_a: range of a.
        sharpen_b: range of b.
        per_slice: draw for every slice of a volume.
        views: as in :class:`FBPAug`; half as many as pixels by default, as in the method's training.
        options: further arguments of :class:`FBPAug`: mode, circle, air_zero, preserve_hu, slice_axis, spacing_mm,
            reference_spacing_mm, check_units.

    Raises:
        ValueError: for a probability outside [0, 1], a range that is empty, or b that is not positive.

    >>> augment = RandFBPAug(prob=1.0, mode="fft2").set_random_state(seed=0)
    >>> image = torch.full((1, 32, 32), -1000.0)
    >>> image[:, 8:24, 8:24] = 40.0
    >>> augment(image).shape
    torch.Size([1, 32, 32])
    """

    def __init__(
        self,
        prob: float = 0.5,
        *,
        sharpen_prob: float = 0.5,
        smooth_a: Range = (-1.0, 0.0),
        smooth_b: Range = (0.1, 1.0),
        sharpen_a: Range = (10.0, 40.0),
        sharpen_b: Range = (1.0, 4.0),
        per_slice: bool = False,
        views: float | None = 0.5,
        **options: Any,
    ) -> None:
        super().__init__(prob)
        for name, value in (("prob", prob), ("sharpen_prob", sharpen_prob)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {value}")
        ranges = {"smooth_a": smooth_a, "smooth_b": smooth_b, "sharpen_a": sharpen_a, "sharpen_b": sharpen_b}
        for name, (low, high) in ranges.items():
            if not low <= high:
                raise ValueError(f"{name} must be a range (low, high), got {(low, high)}")
            if name.endswith("_b") and low <= 0:
                raise ValueError(f"{name} must be positive, got {(low, high)}")
        self.sharpen_prob = sharpen_prob
        self.ranges = ranges
        self.per_slice = per_slice
        self.kernel = FBPAug(0.0, 1.0, views=views, **options)
        self.a = np.zeros(0)  # of every slice; NaN where the slice stays as it is
        self.b = np.zeros(0)

    def _draw_one(self, state: np.random.RandomState) -> tuple[float, float]:
        kind = "sharpen" if state.random() < self.sharpen_prob else "smooth"
        return state.uniform(*self.ranges[f"{kind}_a"]), state.uniform(*self.ranges[f"{kind}_b"])

    def _draw(self, size: Sequence[int]) -> None:
        a, b = self._draw_one(self.R)
        count = self.kernel.slices(tuple(size))
        self.a, self.b = np.full(count, a), np.full(count, b)

    def randomize(self, size: Sequence[int]) -> None:
        """Draw whether to act and with which kernel, for an image of this spatial size."""
        if not self.per_slice:
            super().randomize(size)
            return
        self._draw_each([self.R] * self.kernel.slices(tuple(size)))
        self._size = tuple(size)

    def _draw_each(self, states: Sequence[np.random.RandomState]) -> None:
        draws = [self._draw_one(state) if state.random() < self.prob else (np.nan, 1.0) for state in states]
        self.a, self.b = np.array(draws).reshape(-1, 2).T
        self._do_transform = not bool(np.isnan(self.a).all())

    def _apply(self, image: Tensor, spacing_mm: float | None = None) -> Tensor:
        a, b = (torch.from_numpy(values) for values in (self.a, self.b))
        return self.kernel.apply(image, a, b, spacing_mm=spacing_mm)

    def __call__(self, image: Tensor, *, randomize: bool = True) -> Tensor:
        def apply(values: Tensor) -> Tensor:
            spacing = self.kernel.spacing_mm or slice_spacing_mm(image, self.kernel.slice_axis)
            return self._apply(values, spacing)

        return self._transformed(image, randomize, apply)

    def batch(
        self,
        images: Tensor,  # (B, C, H, W) HU
        *,
        states: Sequence[np.random.RandomState] | None = None,
        spacing_mm: float = 1.0,
    ) -> Tensor:  # (B, C, H, W) HU
        """Act on a batch of slices on their device, each sample with its own draw.

        Args:
            images: slices of one size.
            states: a random state per sample; the transform's own for all by default.
            spacing_mm: pixel size, unless the transform was given one.
        """
        if images.ndim != 4:
            raise ValueError(f"images must be (B, C, H, W), got {tuple(images.shape)}")
        self._draw_each([self.R] * len(images) if states is None else states)
        if not self._do_transform:
            return images.clone()
        axis = self.kernel.slice_axis + 1
        stacked = images.transpose(0, 1).movedim(1, axis)  # the samples are the slices of a volume
        return self._apply(stacked, spacing_mm).movedim(axis, 1).transpose(0, 1).contiguous()


class RandFBPAugd(RandImageTransformd):
    """Dictionary version of ``RandFBPAug``: all keys share one draw; further arguments as there."""

    transform: RandFBPAug

    def __init__(
        self, keys: KeysCollection, prob: float = 0.5, *, allow_missing_keys: bool = False, **options: Any
    ) -> None:
        super().__init__(keys, RandFBPAug(prob, **options), allow_missing_keys)
