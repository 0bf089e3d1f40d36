"""Batches of labelled and of unlabelled samples by turns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from medsynth_ext.data.sampler import CounterSampler

__all__ = ["SemiSupervisedSampler"]


class SemiSupervisedSampler(CounterSampler):
    """One batch of labelled samples after every ``ratio`` batches of unlabelled ones; see ``CounterSampler``.

    No batch is mixed, so labelled and unlabelled samples may have different keys. Both are drawn uniformly, and the
    count of batches goes on from epoch to epoch.

    Args:
        dataset: the labelled samples, then the unlabelled ones.
        labelled: how many of them are labelled.
        ratio: unlabelled batches per labelled one; 0 for labelled batches only.
        options: of ``CounterSampler``.

    Raises:
        ValueError: for a negative ratio, or as ``CounterSampler`` does.
    """

    def __init__(self, dataset: Dataset, *, labelled: int, ratio: int, **options: Any) -> None:
        if ratio < 0:
            raise ValueError(f"ratio must not be negative, got {ratio}")
        super().__init__(dataset, **options)
        self.labelled = labelled
        self.ratio = ratio

    def is_labelled(self, batch: int) -> bool:
        """Whether a batch, counted from 0 over all epochs, is a labelled one."""
        return batch % (self.ratio + 1) == self.ratio

    def __iter__(self) -> Iterator[int]:
        unlabelled = len(self.dataset) - self.labelled  # type: ignore[arg-type]
        if self.labelled < 1 or (unlabelled < 1 and self.ratio > 0):
            raise ValueError(
                f"there must be labelled and, for the ratio {self.ratio}, unlabelled samples to draw from, got "
                f"{self.labelled} and {unlabelled}"
            )
        raw = np.random.Philox(key=np.array([self.seed, self.epoch], dtype=np.uint64)).random_raw(self.total_size)
        shares = (raw >> np.uint64(32)).reshape(-1, self.num_replicas, self.batch_size)
        first = max(self.epoch - 1, 0) * len(shares)  # engines count epochs from 1
        items: list[int] = []
        for i, share in enumerate(shares[:, self.rank]):
            count, start = (self.labelled, 0) if self.is_labelled(first + i) else (unlabelled, self.labelled)
            items += (((share * np.uint64(count)) >> np.uint64(32)).astype(np.int64) + start).tolist()
        return iter(items)
