"""Pairs of frames: one for its content, one for its style."""

from __future__ import annotations

from typing import Any

import numpy as np
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
    """Every frame as content with another one as its style, always the same.

    The frames stand in a drawn order, in a ring, and each takes its style from the next. At a fixed distance by name
    both would come from one machine wherever names begin with what a frame shows.

    Args:
        data: frames, ``{"image": ...}``.
        seed: of the order.
    """

    def __init__(self, data: Dataset, *, seed: int = 0) -> None:
        self.data = data
        order = np.random.default_rng(seed).permutation(len(data))  # type: ignore[arg-type]
        self.style_of = dict(zip(order.tolist(), np.roll(order, -1).tolist(), strict=True))

    def __len__(self) -> int:
        return len(self.data)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self.data[index], "style": self.data[self.style_of[index]]["image"]}
