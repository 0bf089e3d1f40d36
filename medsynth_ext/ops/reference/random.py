"""Plain PyTorch twin of the random family."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["philox_raw", "rand_int", "rand_normal", "rand_uniform"]

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


def _elements(
    size: Sequence[int], index_shape: Sequence[int] | None, index_origin: Sequence[int] | None, device: torch.device
) -> Tensor:
    """Linear index of every element of a grid inside its virtual grid, flattened."""
    whole = size if index_shape is None else index_shape
    origin = [0] * len(size) if index_origin is None else index_origin
    v = torch.zeros(1, dtype=torch.int64, device=device)
    for n, n_whole, first in zip(size, whole, origin, strict=True):
        v = (v[:, None] * n_whole + torch.arange(first, first + n, device=device)).reshape(-1)
    return v


class _Place(NamedTuple):
    """Which part of the numbers of a seed is wanted, and where it is computed."""

    sample_offset: int
    stream: int
    index_shape: Sequence[int] | None
    index_origin: Sequence[int] | None
    device: torch.device | str


def _words(shape: Sequence[int], seed: int, per_block: int, place: _Place) -> tuple[Tensor, Tensor]:
    """Place of every element in its Philox block, (N,), and the four words of that block, (B, C, N, 4)."""
    batch, channels, *size = shape
    sample_offset, stream, device = place.sample_offset, place.stream, torch.device(place.device)
    v = _elements(size, place.index_shape, place.index_origin, device)
    block = v // per_block
    counters = torch.empty(batch, channels, v.numel(), 4, dtype=torch.int64, device=device)
    counters[..., 0] = block & _MASK
    counters[..., 1] = block >> 32
    counters[..., 2] = (sample_offset + torch.arange(batch, device=device))[:, None, None]
    counters[..., 3] = ((stream << 8) | torch.arange(channels, device=device))[None, :, None]
    words = philox_raw(counters.reshape(-1, 4), (seed & _MASK, (seed >> 32) & _MASK))
    return v % per_block, words.reshape(counters.shape)


def _own_word(shape: Sequence[int], seed: int, place: _Place) -> Tensor:
    """The word of every element where each takes one, (B, C, N)."""
    k, words = _words(shape, seed, 4, place)
    return words.gather(-1, k.expand(words.shape[:-1])[..., None])[..., 0]


def _unit53(high: Tensor, low: Tensor) -> Tensor:
    """The upper 53 bits of two words as an integer in float64."""
    return (high.double() * 2**21) + (low >> 11).double()


def _write(result: Tensor, out: Tensor | None) -> Tensor:
    return result if out is None else out.copy_(result)


def rand_normal(
    shape: Sequence[int],
    seed: int,
    *,
    sample_offset: int = 0,
    stream: int = 0,
    index_shape: Sequence[int] | None = None,
    index_origin: Sequence[int] | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    out: Tensor | None = None,
) -> Tensor:
    """Box-Muller pairs in float64, rounded once at the end; see :func:`medsynth_ext.ops.rand_normal`."""
    place = _Place(sample_offset, stream, index_shape, index_origin, device)
    if dtype == torch.float64:
        k, w = _words(shape, seed, 2, place)
        u1 = (_unit53(w[..., 0], w[..., 1]) + 1) * 2.0**-53
        u2 = _unit53(w[..., 2], w[..., 3]) * 2.0**-53
    else:
        k, w = _words(shape, seed, 4, place)
        second = k >= 2
        u1 = ((torch.where(second, w[..., 2], w[..., 0]) >> 8) + 1).double() * 2.0**-24
        u2 = (torch.where(second, w[..., 3], w[..., 1]) >> 8).double() * 2.0**-24
    angle = 2 * math.pi * u2
    z = torch.sqrt(-2 * torch.log(u1)) * torch.where(k % 2 == 0, torch.cos(angle), torch.sin(angle))
    return _write(z.to(dtype).reshape(tuple(shape)), out)


def rand_uniform(
    shape: Sequence[int],
    seed: int,
    low: float = 0.0,
    high: float = 1.0,
    *,
    sample_offset: int = 0,
    stream: int = 0,
    index_shape: Sequence[int] | None = None,
    index_origin: Sequence[int] | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    out: Tensor | None = None,
) -> Tensor:
    """``low + (high - low) u`` with u in [0, 1); see :func:`medsynth_ext.ops.rand_uniform`."""
    place = _Place(sample_offset, stream, index_shape, index_origin, device)
    if dtype == torch.float64:
        k, w = _words(shape, seed, 2, place)
        u = torch.where(k == 0, _unit53(w[..., 0], w[..., 1]), _unit53(w[..., 2], w[..., 3])) * 2.0**-53
    else:
        u = (_own_word(shape, seed, place) >> 8).double() * 2.0**-24
    ends = torch.tensor([low, high], dtype=dtype, device=u.device)
    return _write((ends[0].double() + (ends[1] - ends[0]).double() * u).to(dtype).reshape(tuple(shape)), out)


def rand_int(
    shape: Sequence[int],
    seed: int,
    n: int,
    *,
    sample_offset: int = 0,
    stream: int = 0,
    index_shape: Sequence[int] | None = None,
    index_origin: Sequence[int] | None = None,
    dtype: torch.dtype = torch.int64,
    device: torch.device | str = "cpu",
    out: Tensor | None = None,
) -> Tensor:
    """High word of the product of a random word and ``n``; see :func:`medsynth_ext.ops.rand_int`."""
    word = _own_word(shape, seed, _Place(sample_offset, stream, index_shape, index_origin, device))
    high = word if n == 2**32 else _mul_hi_lo(word, n)[0]
    return _write(high.to(dtype).reshape(tuple(shape)), out)
