"""A sampler whose draws are a pure function of (seed, epoch, position)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Dataset, DistributedSampler

from medsynth_ext.engines.processes import rank_and_world

__all__ = ["CounterSampler", "whole_batches"]


class CounterSampler(DistributedSampler):
    """Draws items uniformly, with replacement; position p of an epoch always gets the same item.

    One epoch has ``samples_per_epoch`` positions, whatever the size of the data set. In each iteration the processes
    take neighbouring blocks of ``batch_size`` positions, so that N processes together see what one process with N times
    the batch size would see. MONAI's engines set the epoch.

    Args:
        dataset: the data set to draw from.
        samples_per_epoch: positions per epoch over all processes, a multiple of batch size times processes.
        batch_size: samples per process and iteration; the data loader's.
        seed: key of the draws.
        parts: lengths of consecutive parts of the data set; positions take turns among those that are not empty, so
            that each is seen as often whatever its length. One part by default.
        num_replicas: number of processes; the process group's when ``None``, or 1 without one.
        rank: number of this process; likewise.

    Raises:
        ValueError: when the samples do not fill whole batches on all processes, or the data set is empty or not as long
            as its parts.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        samples_per_epoch: int,
        batch_size: int,
        seed: int = 0,
        parts: Sequence[int] | None = None,
        num_replicas: int | None = None,
        rank: int | None = None,
    ) -> None:
        own_rank, world = rank_and_world()
        num_replicas = world if num_replicas is None else num_replicas
        rank = own_rank if rank is None else rank
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, seed=seed)
        if samples_per_epoch < 1 or samples_per_epoch % (batch_size * num_replicas):
            raise ValueError(
                f"samples_per_epoch must be a multiple of {batch_size * num_replicas} "
                f"({batch_size} per batch x {num_replicas} processes), got {samples_per_epoch}"
            )
        if parts is not None and sum(parts) != len(dataset):  # type: ignore[arg-type]
            raise ValueError(f"parts must add up to the {len(dataset)} items, got {list(parts)}")  # type: ignore[arg-type]
        self.parts = parts
        self.batch_size = batch_size
        self.num_samples = samples_per_epoch // num_replicas
        self.total_size = samples_per_epoch

    def __iter__(self) -> Iterator[int]:
        n = len(self.dataset)  # type: ignore[arg-type]
        if n == 0:
            raise ValueError("the data set to draw from is empty")
        raw = np.random.Philox(key=np.array([self.seed, self.epoch], dtype=np.uint64)).random_raw(self.total_size)
        lengths = np.array([n] if self.parts is None else self.parts, dtype=np.uint64)
        firsts = np.cumsum(lengths) - lengths
        turn = np.resize(np.flatnonzero(lengths), self.total_size)
        items = firsts[turn] + (((raw >> np.uint64(32)) * lengths[turn]) >> np.uint64(32))
        blocks = items.astype(np.int64).reshape(-1, self.num_replicas, self.batch_size)
        return iter(blocks[:, self.rank].reshape(-1).tolist())


def whole_batches(samples: int, batch_size: int) -> int:
    """Samples per epoch that fill whole batches on all processes: at most ``samples``, at least one batch on each.

    Args:
        samples: wanted per epoch.
        batch_size: samples per process and iteration.
    """
    together = batch_size * rank_and_world()[1]
    return max(samples // together, 1) * together
