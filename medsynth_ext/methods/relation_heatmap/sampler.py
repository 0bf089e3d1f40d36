"""Which frames a batch has of which domain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from medsynth_ext.data.sampler import CounterSampler
from medsynth_ext.methods.relation_heatmap.preparation import SIM

__all__ = ["DomainSampler"]


class DomainSampler(CounterSampler):
    """Frames drawn with replacement, in proportion to the domains' sizes or with a fixed share of the simulator's.

    With a share s, position p of an epoch is the simulator's where ``floor((p + 1) s) > floor(p s)``: every batch has
    its share, however many processes there are.

    Args:
        dataset: the frames.
        domains: the domain of every frame, in the data set's order.
        sim_share: share of the simulator's frames in [0, 1]; ``None`` for their share of the data set.
        options: of ``CounterSampler``.

    Raises:
        ValueError: for a share outside [0, 1], and when frames are drawn of a domain that has none.
    """

    def __init__(
        self, dataset: Dataset, domains: Sequence[int], *, sim_share: float | None = None, **options: Any
    ) -> None:
        super().__init__(dataset, **options)
        if sim_share is not None and not 0 <= sim_share <= 1:
            raise ValueError(f"sim_share must be in [0, 1], got {sim_share}")
        self.frames = {"sim": [i for i, d in enumerate(domains) if d == SIM]}
        self.frames["intraop"] = [i for i, d in enumerate(domains) if d != SIM]
        self.sim_share = sim_share

    def __iter__(self) -> Iterator[int]:
        if self.sim_share is None:
            return super().__iter__()
        raw = np.random.Philox(key=np.array([self.seed, self.epoch], dtype=np.uint64)).random_raw(self.total_size)
        share = (raw >> np.uint64(11)).astype(np.float64) / 2.0**53
        # Rounded, so that shares such as 0.1 come out as meant.
        steps = np.floor(np.round(np.arange(self.total_size + 1) * self.sim_share, 6))
        items = []
        for value, is_sim in zip(share, np.diff(steps) > 0, strict=True):
            name = "sim" if is_sim else "intraop"
            if not self.frames[name]:
                raise ValueError(f"sim_share is {self.sim_share}, but there is no frame of the domain {name}")
            items.append(self.frames[name][int(value * len(self.frames[name]))])
        blocks = np.array(items).reshape(-1, self.num_replicas, self.batch_size)
        return iter(blocks[:, self.rank].reshape(-1).tolist())
