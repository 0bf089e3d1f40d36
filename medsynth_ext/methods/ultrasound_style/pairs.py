"""Pairs of frames: one for its content, one for its style."""

from __future__ import annotations

from typing import Any

from torch.utils.data import Dataset

from medsynth_ext.data import UnpairedDataset

__all__ = ["PairedStyles", "StylePairs"]


class StylePairs(UnpairedDataset):
    """Every frame as content (``a``) with every frame of the same pool as style (``b``), whatever their domains.

    Args:
        data: frames, ``{"image": ...}``.
    """

    def __init__(self, data: Dataset) -> None:
        super().__init__(data, data)


class PairedStyles(Dataset):
    """Every frame as content with another one as its style, always the same: frame n takes its style from ``n + step``.

    Args:
        data: frames, ``{"image": ...}``.
        step: how far the style's frame is; half of the frames when ``None``.
    """

    def __init__(self, data: Dataset, *, step: int | None = None) -> None:
        self.data = data
        self.step = step

    def __len__(self) -> int:
        return len(self.data)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> dict[str, Any]:
        step = max(1, len(self) // 2) if self.step is None else self.step
        other = self.data[(index + step) % len(self)]
        return {**self.data[index], "style": other["image"]}
