"""Checks of a heart's label as it comes from a file."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.transforms import Transform

from medsynth_ext.data.scans import ScanError
from medsynth_ext.methods.fedsim.parts import PART_NAMES

__all__ = ["CheckHeartLabeld"]


class CheckHeartLabeld(Transform):
    """Refuse a label of another label set, without a heart, or whose heart lies outside its scan.

    Args:
        image_key: the scan (1, X, Y, Z).
        label_key: its label on a grid of its own, 0 and 1 or the parts 0 to 7; a case without it passes.

    Raises:
        ScanError: names the file, what was wanted and what came.
    """

    def __init__(self, image_key: str = "image", label_key: str = "label") -> None:
        self.image_key, self.label_key = image_key, label_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        label = result.get(self.label_key)
        if label is None:
            return result
        name = label.meta.get("filename_or_obj", self.label_key)
        values = torch.as_tensor(label).unique().tolist()
        if not set(values) <= set(range(len(PART_NAMES) + 1)):
            shown = ", ".join(f"{value:g}" for value in values[:8]) + (", ..." if len(values) > 8 else "")
            raise ScanError(f"{name} must hold 0 and 1, or the parts 0 to {len(PART_NAMES)}, got {shown}")
        marked = torch.as_tensor(label)[0].nonzero()
        if not len(marked):
            raise ScanError(f"{name} marks no heart")
        image = result[self.image_key]
        middle = np.append(((marked.amin(0) + marked.amax(0)) / 2).numpy(), 1.0)
        place = np.linalg.solve(np.asarray(image.affine), np.asarray(label.affine) @ middle)[:3]
        if (place < -0.5).any() or (place > np.array(image.shape[1:]) - 0.5).any():
            scan = image.meta.get("filename_or_obj", self.image_key)
            raise ScanError(f"the heart of {name} lies outside the scan {scan}: they are not of one patient, or moved")
        return result
