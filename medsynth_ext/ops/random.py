"""Counter-based random numbers: every value is a pure function of (seed, sample, stream, channel, element)."""

from __future__ import annotations

import torch
from torch import Tensor

from medsynth_ext.ops import reference
from medsynth_ext.ops._checks import check_label, use_kernel

__all__ = ["philox_raw"]


def philox_raw(
    counters: Tensor,  # (N, 4) int64, every word in [0, 2**32)
    key: tuple[int, int],
) -> Tensor:  # (N, 4) int64
    """The bare Philox4x32-10 words (Salmon et al., SC 2011) of given counters.

    Raises:
        TypeError: when ``counters`` is not an integer tensor.
        ValueError: for another shape, or words outside 32 bits.

    >>> [hex(v) for v in philox_raw(torch.zeros(1, 4, dtype=torch.int64), (0, 0))[0].tolist()]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    check_label("counters", counters)
    if counters.ndim != 2 or counters.shape[1] != 4:
        raise ValueError(f"counters must be (N, 4), got {tuple(counters.shape)}")
    if any(not 0 <= k < 2**32 for k in key):
        raise ValueError(f"key must be two words in [0, 2**32), got {key}")
    if not use_kernel(counters):
        return reference.philox_raw(counters, key)
    return torch.ops.medsynth_ext.philox_raw(counters.to(torch.int64), *key)


if use_kernel(torch.empty(0)):

    @torch.library.register_fake("medsynth_ext::philox_raw")
    def _philox_raw_fake(counters: Tensor, key0: int, key1: int) -> Tensor:
        return torch.empty_like(counters)
