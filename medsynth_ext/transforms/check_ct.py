"""Checks of CT volumes as they come from files."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from medsynth_ext.data.scans import ScanError
from medsynth_ext.transforms.fbpaug import check_ct

__all__ = ["CheckCTd"]


class CheckCTd(MapTransform):
    """Refuse what cannot be CT in HU with air; the sentence names the file."""

    def __init__(self, keys: KeysCollection, *, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            try:
                check_ct(result[key])
            except ValueError as error:
                name = getattr(result[key], "meta", {}).get("filename_or_obj", key)
                raise ScanError(f"{name}: {error}") from error
        return result
