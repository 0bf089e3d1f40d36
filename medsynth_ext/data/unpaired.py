"""Every combination of two sets of images that show different things."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

from torch.utils.data import Dataset

__all__ = ["UnpairedDataset"]


class UnpairedDataset(Dataset):
    """Item ``i * len(b) + j`` is ``{"a": a[i][key], "b": b[j][key]}``: drawn uniformly, both sides are independent.

    Args:
        a: items of the first domain.
        b: items of the second.
        key: what of an item is wanted.
    """

    def __init__(self, a: Dataset, b: Dataset, *, key: str = "image") -> None:
        self.a, self.b, self.key = a, b, key
        self.counts = tuple(len(s) if isinstance(s, Sized) else 0 for s in (a, b))

    def __len__(self) -> int:
        return self.counts[0] * self.counts[1]

    def __getitem__(self, index: int) -> dict[str, Any]:
        i, j = divmod(index, self.counts[1])
        return {"a": self.a[i][self.key], "b": self.b[j][self.key]}
