"""Counter-based random numbers: every value is a pure function of (seed, sample, stream, channel, element)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medsynth_ext.ops import reference
from medsynth_ext.ops._checks import check_label, check_out, check_seed, in_graph, use_kernel

__all__ = ["philox_raw", "rand_int", "rand_normal", "rand_uniform", "seed_from_torch"]


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


def seed_from_torch() -> int:
    """One seed from torch's global CPU generator, so that ``torch.manual_seed`` and MONAI's ``set_determinism`` decide.

    >>> _ = torch.manual_seed(0)
    >>> a = seed_from_torch()
    >>> _ = torch.manual_seed(0)
    >>> a == seed_from_torch()
    True
    """
    return int(torch.randint(-(2**63), 2**63 - 1, (), dtype=torch.int64))


def check_index_grid(
    size: Sequence[int], index_shape: Sequence[int] | None, index_origin: Sequence[int] | None
) -> tuple[list[int], list[int]]:
    """The virtual grid and the place in it as lists, both empty when there is none (not in graphs).

    Raises:
        ValueError: when the grid ``size`` at ``index_origin`` does not lie inside ``index_shape``.
    """
    if index_shape is None:
        if index_origin is not None:
            raise ValueError("index_origin needs index_shape")
        if in_graph():  # the same numbers; AOTInductor's C++ side cannot hand over empty lists
            return [int(n) for n in size], [0] * len(size)
        return [], []
    whole = [int(n) for n in index_shape]
    origin = [0] * len(size) if index_origin is None else [int(n) for n in index_origin]
    if len(whole) != len(size):
        raise ValueError(f"index_shape must have {len(size)} entries, got {whole}")
    if len(origin) != len(size):
        raise ValueError(f"index_origin must have {len(size)} entries, got {origin}")
    if any(o < 0 or o + n > w for o, n, w in zip(origin, size, whole, strict=True)):
        raise ValueError(f"a grid of {tuple(size)} at index_origin {origin} does not lie inside index_shape {whole}")
    return whole, origin


def check_channels(channels: int) -> None:
    """Raise ``ValueError`` for more channels than the counter has room for."""
    if channels > 256:
        raise ValueError(f"there can be at most 256 channels, got {channels}")


def _filled(
    law: str,
    shape: Sequence[int],
    seed: int,
    numbers: tuple[float, ...],
    dtype: torch.dtype,
    device: torch.device | str,
    out: Tensor | None,
    *,
    sample_offset: int,
    stream: int,
    index_shape: Sequence[int] | None,
    index_origin: Sequence[int] | None,
) -> Tensor:
    """A new tensor, or ``out``, with numbers of the law ``rand_*``, whose own parameters are ``numbers``."""
    if not 3 <= len(shape) <= 5 or any(n < 0 for n in shape):
        raise ValueError(f"shape must be (B, C, *S) with one to three spatial axes, got {tuple(shape)}")
    check_seed(seed, sample_offset, stream)
    if sample_offset + shape[0] > 2**32:
        raise ValueError(f"sample_offset + B must be at most 2**32, got {sample_offset} + {shape[0]}")
    check_channels(shape[1])
    whole, origin = check_index_grid(shape[2:], index_shape, index_origin)
    if out is None:
        out = torch.empty(tuple(shape), dtype=dtype, device=device)
    else:
        check_out(out, shape, dtype, out.device, ())
    if use_kernel(out):
        fill = getattr(torch.ops.medsynth_ext, f"{law}_out")
        fill(*numbers, seed, sample_offset, stream, whole, origin, out)
        return out
    place = {"sample_offset": sample_offset, "stream": stream, "index_shape": index_shape, "index_origin": index_origin}
    return getattr(reference, law)(shape, seed, *numbers, **place, dtype=dtype, device=out.device, out=out)


def _check_float_dtype(dtype: torch.dtype) -> None:
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(f"dtype must be float32 or float64, got {dtype}")


def rand_normal(
    shape: Sequence[int],  # (B, C, *S)
    seed: int,
    *,
    sample_offset: int = 0,
    stream: int = 0,
    index_shape: Sequence[int] | None = None,
    index_origin: Sequence[int] | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    out: Tensor | None = None,
) -> Tensor:  # (B, C, *S)
    """Standard normal numbers that depend on (seed, sample, stream, channel, element) alone.

    The same on CPU and GPU, for any batch split and thread count. float32 and float64 are two different streams.

    Args:
        shape: batch, channels (at most 256) and one to three spatial axes.
        seed: signed 64-bit integer.
        sample_offset: sample index of the first batch entry.
        stream: number of the sequence, in [0, 2**24); see docs/random_numbers.md for those in use.
        index_shape: grid that numbers the elements; a crop at ``index_origin`` then repeats the numbers of the whole.
        index_origin: place of this grid in ``index_shape``, zeros when left out.
        dtype: float32 or float64.
        device: where the result lives; ``out`` decides when given.
        out: written to and returned.

    Raises:
        TypeError: for another dtype.
        ValueError: for a seed, sample, stream, channel count or grid out of range.

    >>> whole = rand_normal((2, 1, 8, 8), 7)
    >>> crop = rand_normal((1, 1, 3, 4), 7, sample_offset=1, index_shape=(8, 8), index_origin=(2, 3))
    >>> torch.equal(whole[1:, :, 2:5, 3:7], crop)
    True
    """
    _check_float_dtype(dtype)
    return _filled(
        "rand_normal",
        shape,
        seed,
        (),
        dtype,
        device,
        out,
        sample_offset=sample_offset,
        stream=stream,
        index_shape=index_shape,
        index_origin=index_origin,
    )


def rand_uniform(
    shape: Sequence[int],  # (B, C, *S)
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
) -> Tensor:  # (B, C, *S)
    """Uniform numbers ``low + (high - low) u``, u in [0, 1) with 24 (float32) or 53 (float64) bits.

    Arguments and errors as for :func:`rand_normal`; ``low`` and ``high`` must be finite and in order (``ValueError``).
    With rounding the largest number can be ``high`` itself.
    """
    _check_float_dtype(dtype)
    if not -float("inf") < low <= high < float("inf"):
        raise ValueError(f"low and high must be finite and low <= high, got {low} and {high}")
    return _filled(
        "rand_uniform",
        shape,
        seed,
        (low, high),
        dtype,
        device,
        out,
        sample_offset=sample_offset,
        stream=stream,
        index_shape=index_shape,
        index_origin=index_origin,
    )


def rand_int(
    shape: Sequence[int],  # (B, C, *S)
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
) -> Tensor:  # (B, C, *S)
    """Integers in [0, n): the upper half of a 32-bit random word times ``n``; probabilities are off by at most 2**-32.

    Arguments and errors as for :func:`rand_normal`; ``dtype`` is uint8, int16, int32 or int64 and must hold ``n - 1``.
    """
    if dtype not in (torch.uint8, torch.int16, torch.int32, torch.int64):
        raise TypeError(f"dtype must be uint8, int16, int32 or int64, got {dtype}")
    if not 1 <= n <= 2**32 or n - 1 > torch.iinfo(dtype).max:
        raise ValueError(f"n must be in [1, 2**32] and n - 1 fit in {dtype}, got {n}")
    return _filled(
        "rand_int",
        shape,
        seed,
        (n,),
        dtype,
        device,
        out,
        sample_offset=sample_offset,
        stream=stream,
        index_shape=index_shape,
        index_origin=index_origin,
    )


if use_kernel(torch.empty(0)):

    @torch.library.register_fake("medsynth_ext::philox_raw")
    def _philox_raw_fake(counters: Tensor, key0: int, key1: int) -> Tensor:
        return torch.empty_like(counters)

    def _nothing(*_args: object) -> None:
        """Fake of the operators that only write to ``out``."""

    for _name in ("rand_int_out", "rand_normal_out", "rand_uniform_out"):
        torch.library.register_fake(f"medsynth_ext::{_name}", _nothing)
