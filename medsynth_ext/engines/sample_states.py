"""Random states of single samples."""

from __future__ import annotations

import numpy as np

__all__ = ["sample_states"]


def sample_states(seed: int, first: int, count: int) -> list[np.random.RandomState]:
    """A random state per sample, a function of (seed, number of the sample) alone.

    Args:
        seed: key of the training's draws.
        first: number of the first sample, see :class:`medsynth_ext.engines.SupervisedStep`.
        count: how many.
    """
    keys = [np.array([seed, i], dtype=np.uint64) for i in range(first, first + count)]
    return [np.random.RandomState(np.random.Philox(key=key)) for key in keys]
