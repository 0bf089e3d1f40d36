"""The phantoms as sources of labelled images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from medsynth_ext.bulk.sample import Sample, Volume, sample_number
from medsynth_ext.phantoms.head import head_phantom
from medsynth_ext.phantoms.head_mr_ct import head_mr_ct
from medsynth_ext.phantoms.heart_rendering import render_heart_ct, render_heart_mr
from medsynth_ext.phantoms.inner_ear import inner_ear_phantom
from medsynth_ext.phantoms.rendering import render_head
from medsynth_ext.phantoms.whole_heart import whole_heart_phantom

__all__ = ["PHANTOMS", "PhantomSource"]


def _head(seed: int, index: int, *, contrast: str, size: int, spacing_mm: float) -> Sample:
    number = sample_number(seed, index)
    phantom = head_phantom(number, shape=(size,) * 3, spacing_mm=spacing_mm)
    image = render_head(phantom, contrast, number)
    label = MetaTensor(phantom.labels[None], affine=phantom.affine)
    return Sample({"image": _whole(image), "label": Volume(label, np.int16)})


def _head_mr_ct(seed: int, index: int, *, size: int, spacing_mm: float) -> Sample:
    pair = head_mr_ct(sample_number(seed, index), shape=(size,) * 3, spacing_mm=spacing_mm)
    label = MetaTensor(pair.phantom.labels[None], affine=pair.phantom.affine)
    return Sample({"mr": _whole(pair.mr), "ct": _whole(pair.ct), "label": Volume(label, np.int16)})


def _heart(seed: int, index: int, *, modality: str, style: str, site: str, size: int, fov_mm: float) -> Sample:
    phantom = whole_heart_phantom(seed, index, site=site, size=size, fov_mm=fov_mm)
    number = sample_number(seed, index)
    is_mr = modality == "mr"
    image = render_heart_mr(phantom, style, seed=number) if is_mr else render_heart_ct(phantom, style, seed=number)
    label = MetaTensor(phantom.labels[None], affine=phantom.affine)
    return Sample({"image": _whole(image), "label": Volume(label, np.uint8)})


def _inner_ear(seed: int, index: int, *, size: int, spacing_mm: float) -> Sample:
    phantom = inner_ear_phantom(sample_number(seed, index), size=(size,) * 3, spacing_mm=spacing_mm)
    image, label = (MetaTensor(v[None], affine=phantom.affine) for v in (phantom.image, phantom.mask))
    named = zip(phantom.landmark_names, phantom.landmarks_mm.tolist(), strict=True)
    points = {name: [round(v, 3) for v in point] for name, point in named}
    return Sample({"image": _whole(image), "label": Volume(label, np.uint8)}, {"landmarks_mm": points})


def _whole(image: MetaTensor) -> Volume:
    """Intensities in whole numbers, as scanners store them."""
    info = torch.iinfo(torch.int16)
    whole = MetaTensor(image.as_tensor().round().clamp(info.min, info.max), affine=image.affine)
    return Volume(whole, np.int16)


PHANTOMS: dict[str, tuple[Callable[..., Sample], dict[str, Any]]] = {
    "head": (_head, {"contrast": "T1", "size": 96, "spacing_mm": 2.0}),
    "head_mr_ct": (_head_mr_ct, {"size": 96, "spacing_mm": 2.0}),
    "heart_ct": (_heart, {"modality": "ct", "style": "A", "site": "A", "size": 96, "fov_mm": 192.0}),
    "heart_mr": (_heart, {"modality": "mr", "style": "bssfp", "site": "A", "size": 96, "fov_mm": 192.0}),
    "inner_ear": (_inner_ear, {"size": 96, "spacing_mm": 0.5}),
}


class PhantomSource:
    """People of a phantom and their scans.

    Args:
        phantom: key of :data:`PHANTOMS`.
        options: in place of its defaults there.

    Raises:
        ValueError: for another phantom or an option that it does not have.
    """

    def __init__(self, phantom: str, **options: Any) -> None:
        if phantom not in PHANTOMS:
            raise ValueError(f"phantom must be one of {', '.join(PHANTOMS)}, got {phantom!r}")
        self.phantom = phantom
        self._make, defaults = PHANTOMS[phantom]
        if unknown := sorted(set(options) - set(defaults)):
            raise ValueError(f"the phantom {phantom} has the options {', '.join(defaults)}, got {unknown[0]}")
        self.options = {**defaults, **options}

    def describe(self) -> dict[str, Any]:
        """Phantom and options."""
        return {"kind": "phantom", "phantom": self.phantom, **self.options}

    def make(self, index: int, *, seed: int) -> Sample:
        """Person ``index`` of the population ``seed``."""
        return self._make(seed, index, **self.options)
