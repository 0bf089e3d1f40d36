"""Memory that a call needs beyond its inputs, and the allocator settings that timing needs."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

__all__ = ["extra_peak_mib", "settle_allocator"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_STEADY_THRESHOLD = 1 << 25  # where glibc's own rule ends up after one large block has been freed


def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL("libc.so.6") if sys.platform == "linux" else None


def _set_thresholds(mmap: int) -> None:
    libc = _libc()
    if libc is not None and hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, mmap)
        libc.mallopt(_M_TRIM_THRESHOLD, 2 * mmap)


def settle_allocator() -> None:
    """Put the allocator where it ends up anyway, so that the first case is measured as the last one."""
    _set_thresholds(_STEADY_THRESHOLD)


@contextmanager
def _every_block_fresh() -> Iterator[None]:
    """Freed blocks leave the process at once; without this a peak shows what an earlier call left behind."""
    _set_thresholds(1 << 16)
    try:
        yield
    finally:
        _set_thresholds(_STEADY_THRESHOLD)


def _resident_mib(key: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no {key}")


def extra_peak_mib(call: Callable[[], Any], device: torch.device) -> float | None:
    """MiB at the peak of one call above what was held before; ``None`` where the system does not tell."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        result = call()
        torch.cuda.synchronize(device)
        del result
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    libc = _libc()
    if libc is None or not hasattr(libc, "malloc_trim"):
        return None
    with _every_block_fresh():
        libc.malloc_trim(0)
        try:
            Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
            before = _resident_mib("VmRSS")
            result = call()
            peak = _resident_mib("VmHWM") - before
        except OSError:
            return None
        del result
    return max(peak, 0.0)
