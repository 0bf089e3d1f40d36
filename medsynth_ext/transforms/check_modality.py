"""A warning where CT and MR were swapped, and an end where an image shows nothing."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform

from medsynth_ext.data.modality import check_modality
from medsynth_ext.data.scans import ScanError

__all__ = ["CheckModalityd"]


class CheckModalityd(MapTransform):
    """Warn with a ``ModalityWarning`` that names the file when an image looks like another modality; see
    :func:`medsynth_ext.data.modality.check_modality`. Refuse one with NaN or infinity, which would spread over all that
    is made of it, with one value alone, or with several volumes (a file of four axes).

    Put it behind the loading: it judges values as they were stored.

    Args:
        keys: images, channel-first.
        modality: ``CT`` or ``MR``, what they should be.
        allow_missing_keys: pass over missing keys.
    """

    def __init__(self, keys: KeysCollection, modality: str, *, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.modality = modality

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            name = str(getattr(result[key], "meta", {}).get("filename_or_obj", key))
            values = np.asarray(result[key])
            if values.ndim > 3 and values.shape[0] != 1:
                raise ScanError(f"{name} must be one 3-D scan, got {values.shape[0]} volumes")
            bad = int((~np.isfinite(values)).sum())
            if bad:
                raise ScanError(
                    f"{name} must hold finite values, {bad} of its {values.size} voxels are NaN or infinite"
                )
            if np.ptp(values) == 0:
                raise ScanError(f"{name} shows nothing: all {values.size} voxels are {values.flat[0]:g}")
            check_modality(values, self.modality, name=name)
        return result
