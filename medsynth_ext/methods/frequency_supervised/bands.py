"""From the network's channels to Hounsfield units."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform
from torch import Tensor

__all__ = ["RestoreHUd"]

_BANDS = ("low", "high")


class RestoreHUd(MapTransform):
    """CT in HU of the network's first channel, and on demand its bands and the share of the high band beside it.

    Args:
        keys: output of a network, (1 or 4, D, H, W).
        hu_window: HU that the ends of ``value_range`` stand for; the CT is cut to it.
        value_range: of the network's CT.
        bands: add ``low`` (HU), ``high`` (HU offset) and ``share`` (0 to 1) as new entries.

    Raises:
        ValueError: when bands are wanted of a network that has none.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        hu_window: Sequence[float] = (-1024.0, 2252.7),
        value_range: Sequence[float] = (0.0, 1.0),
        bands: bool = False,
    ) -> None:
        super().__init__(keys)
        self.low_hu, self.high_hu = (float(v) for v in hu_window)
        self.low, self.high = (float(v) for v in value_range)
        self.bands = bands

    @property
    def hu_per_unit(self) -> float:
        """HU that one unit of the network stands for."""
        return (self.high_hu - self.low_hu) / (self.high - self.low)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            output: Tensor = result[key]
            result[key] = self._to_hu(output[:1]).clamp(self.low_hu, self.high_hu)
            if not self.bands:
                continue
            if output.shape[0] < 4:
                raise ValueError(f"bands are wanted, but the network gives {output.shape[0]} channel without any")
            result["low"] = self._to_hu(output[1:2])
            result["high"] = output[2:3] * self.hu_per_unit
            result["share"] = output[3:4]
        return result

    def _to_hu(self, values: Tensor) -> Tensor:
        return (values.float() - self.low) * self.hu_per_unit + self.low_hu
