"""Plain PyTorch twin of the random family."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["philox_raw"]

_MASK = 0xFFFFFFFF


def _mul_hi_lo(a: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of the product of two 32-bit words held in int64 (which has no room for all 64 bits)."""
    low = (a & 0xFFFF) * m
    high = (a >> 16) * m + (low >> 16)
    return high >> 16, ((high & 0xFFFF) << 16) | (low & 0xFFFF)


def philox_raw(counters: Tensor, key: tuple[int, int]) -> Tensor:
    """Ten rounds of Philox4x32 on (N, 4) int64 counters; see :func:`medsynth_ext.ops.philox_raw`."""
    c0, c1, c2, c3 = counters.to(torch.int64).unbind(1)
    k0, k1 = key
    for _ in range(10):
        h0, l0 = _mul_hi_lo(c0, 0xD2511F53)
        h1, l1 = _mul_hi_lo(c2, 0xCD9E8D57)
        c0, c1, c2, c3 = h1 ^ c1 ^ k0, l1, h0 ^ c3 ^ k1, l0
        k0, k1 = (k0 + 0x9E3779B9) & _MASK, (k1 + 0xBB67AE85) & _MASK
    return torch.stack([c0, c1, c2, c3], dim=1)
