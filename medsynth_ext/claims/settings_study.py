"""The part of a study that is the same for all: settings of one scale, a device, a split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Generic, TypeVar

import torch

from medsynth_ext.claims.settings import StudySettings
from medsynth_ext.claims.study import Study

__all__ = ["SettingsStudy"]

S = TypeVar("S", bound=StudySettings)


class SettingsStudy(Study, Generic[S]):
    """A study whose numbers are one dataclass.

    Args:
        settings: the numbers of one scale.
        device: where networks are trained.
        split: the last of ``splits``, or another one of them while choices are made.

    Raises:
        ValueError: for another split, or settings that are missing or unknown.
    """

    settings_type: type[S]
    splits: ClassVar[tuple[str, ...]] = ("validation", "test")

    def __init__(self, settings: Mapping[str, Any], *, device: str | torch.device = "cpu", split: str = "test") -> None:
        if split not in self.splits:
            raise ValueError(f"split must be one of {', '.join(self.splits)}, got {split!r}")
        self.settings: S = self.settings_type.from_config(settings)
        self.device = str(device)
        self.split = split

    def shared(self, *left_out: str) -> dict[str, Any]:
        """What the figures of every arm depend on: all numbers but bounds, seeds and these, the split, the device."""
        without = ("thresholds", "seeds", *left_out)
        numbers = {key: value for key, value in asdict(self.settings).items() if key not in without}  # type: ignore[call-overload]
        return {**numbers, "split": self.split, "device": torch.device(self.device).type}
