"""Measuring: peers of a case take turns, so that other load on the machine hits all of them alike."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmarks.memory import extra_peak_mib

__all__ = ["Agreement", "Case", "Needs", "Peer", "Row", "close_to", "measure"]

ROLES = ("out", "fresh", "variant", "twin", "eager", "tuned", "compile", "peer")
CACHE_FLUSH_BYTES = 1 << 29  # several times the last-level cache of any GPU


class Needs(RuntimeError):  # noqa: N818 - it says what is needed
    """A peer cannot run here, and why; the row says so instead of a time."""


@dataclass(frozen=True)
class Agreement:
    """Whether a peer's result is the expected one, and how far apart they are, in words."""

    ok: bool
    text: str


@dataclass(frozen=True)
class Peer:
    """One way of computing a case's result.

    Args:
        name: what the table calls it.
        prepare: builds everything that does not belong in the time and returns the call to time. It raises ``Needs`` or
            ``ImportError`` where the peer cannot run.
        role: ``out`` and ``fresh`` are our operator with and without ``out=``, ``variant`` another form of it, ``twin``
            our plain PyTorch twin, ``eager`` the plain PyTorch composition, ``tuned`` its best hand-tuned forms,
            ``compile`` torch.compile and ``peer`` another package.
        view: turns the result into the tensor that is compared; ``None`` for a peer that computes something else.
        note: what is different about it; required when it is not compared.
        max_rounds: for very slow peers.
        devices: where it can run.
    """

    name: str
    prepare: Callable[[], Callable[[], Any]]
    role: str = "peer"
    view: Callable[[Any], Tensor] | None = None
    note: str = ""
    max_rounds: int | None = None
    devices: tuple[str, ...] = ("cpu", "cuda")

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"role must be one of {ROLES}, got {self.role!r}")
        if self.view is None and not self.note:
            raise ValueError(f"{self.name} is not compared, so note must say why")


@dataclass(frozen=True)
class Case:
    """One table: peers that do the same work.

    Args:
        key: short name that goals refer to.
        title: heading of the table.
        peers: in any order; the table is sorted by CPU time.
        check: compares a viewed result with the expected one.
        least_bytes: fewest bytes that must move through memory; 0 where no such count is meant.
        samples: how many samples one call makes, for a rate.
        grad: whether the calls need gradients.
    """

    key: str
    title: str
    peers: Sequence[Peer]
    check: Callable[[Tensor], Agreement]
    least_bytes: int = 0
    samples: int = 0
    grad: bool = False


@dataclass
class Row:
    """What was measured for one peer. Times in milliseconds."""

    name: str
    role: str
    status: str = "measured"  # measured | wrong | not installed | cannot run | failed
    note: str = ""
    agreement: str = ""
    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)  # summed over threads; on CUDA not taken
    device_ms: list[float] = field(default_factory=list)  # between CUDA events, caches cold
    extra_peak_mib: float | None = None
    least_bytes: int = 0

    def least(self, clock: str) -> float:
        """Shortest time of one clock: wall, cpu or device."""
        return min(getattr(self, f"{clock}_ms"), default=math.nan)

    def median(self, clock: str) -> float:
        """Median time of one clock: wall, cpu or device."""
        times = getattr(self, f"{clock}_ms")
        return statistics.median(times) if times else math.nan

    def gb_per_s(self) -> float:
        """Least bytes over the median time: a lower bound of what really moved."""
        clock = "device" if self.device_ms else "wall"
        return self.least_bytes / self.median(clock) / 1e6

    def record(self) -> dict[str, Any]:
        """For the JSON file: every time, and the figures the tables show."""
        figures = {
            f"{c}_{f.__name__}_ms": f(self, c) for c in ("wall", "cpu", "device") for f in (Row.least, Row.median)
        }
        return asdict(self) | {k: None if math.isnan(v) else v for k, v in figures.items()}


def close_to(expected: Tensor, tolerance: float, *, what: str = "largest difference") -> Callable[[Tensor], Agreement]:
    """A check on the largest difference; a result of another shape or with NaN never agrees."""

    def check(result: Tensor) -> Agreement:
        if result.shape != expected.shape:
            return Agreement(False, f"shape {tuple(result.shape)}, wanted {tuple(expected.shape)}")
        difference = (result.double() - expected.double()).abs().max().item() if expected.numel() else 0.0
        ok = difference <= tolerance  # false for NaN
        return Agreement(ok, f"{what} {difference:.1e}" + ("" if ok else f", allowed {tolerance:.0e}"))

    return check


def measure(case: Case, *, device: torch.device, rounds: int, budget_s: float = 40.0, memory: bool = True) -> list[Row]:
    """Run all peers of a case in turns.

    Every peer runs once to warm up and be compared, then once in each round. After three rounds a peer that has used
    ``budget_s`` seconds drops out. A peer that is missing, fails or disagrees keeps its row, which says so; its times
    are not taken, so no ratio can be claimed from it.
    """
    rows: list[Row] = []
    live: list[tuple[Row, Peer, Callable[[], Any]]] = []
    with torch.set_grad_enabled(case.grad):
        for peer in case.peers:
            row = Row(peer.name, peer.role, note=peer.note, least_bytes=case.least_bytes)
            rows.append(row)
            call = _warm_up(case, peer, row, device)
            if call is not None:
                live.append((row, peer, call))
        timer = _CudaTimer(device) if device.type == "cuda" else _CpuTimer()
        for i in range(rounds):
            for row, peer, call in live:
                spent = sum(row.wall_ms) / 1e3
                if i >= (peer.max_rounds or rounds) or (i >= 3 and spent > budget_s):
                    continue
                timer.time(call, row)
        if memory:
            for row, _, call in live:
                row.extra_peak_mib = extra_peak_mib(call, device)
    return rows


def _warm_up(case: Case, peer: Peer, row: Row, device: torch.device) -> Callable[[], Any] | None:
    """Prepare, run and compare one peer; ``None`` when there is nothing to time."""
    if device.type not in peer.devices:
        row.status, row.agreement = "cannot run", f"runs on {' and '.join(peer.devices)} only"
        return None
    try:
        call = peer.prepare()
        result = call()
        found = None if peer.view is None else peer.view(result).detach()
        agreement = Agreement(True, "") if found is None else case.check(found)
    except ImportError as error:
        row.status, row.agreement = "not installed", str(error)
        return None
    except Needs as reason:
        row.status, row.agreement = "cannot run", str(reason)
        return None
    except Exception as error:  # whatever another package raises: the row reports it, the other peers go on
        message = (str(error).strip() or "no message").splitlines()[0][:160]
        row.status, row.agreement = "failed", f"{type(error).__name__}: {message}"
        return None
    row.agreement = agreement.text
    if not agreement.ok:
        row.status = "wrong"
        return None
    return call


class _CpuTimer:
    """Wall time and the CPU time of all threads of one call."""

    def time(self, call: Callable[[], Any], row: Row) -> None:
        gc.disable()
        wall, cpu = time.perf_counter(), time.process_time()
        result = call()
        row.wall_ms.append((time.perf_counter() - wall) * 1e3)
        row.cpu_ms.append((time.process_time() - cpu) * 1e3)
        gc.enable()
        del result


class _CudaTimer:
    """Device time between events with cold caches, and wall time of calls in a row, launches included."""

    def __init__(self, device: torch.device, *, calls: int = 10) -> None:
        self.device = device
        self.calls = calls
        self.flush = torch.empty(CACHE_FLUSH_BYTES, dtype=torch.uint8, device=device)

    def time(self, call: Callable[[], Any], row: Row) -> None:
        events = []
        for _ in range(self.calls):
            # The flush empties the cache and keeps the device busy while the call is being launched.
            self.flush.zero_()
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            result = call()
            stop.record()
            events.append((start, stop))
            del result
        torch.cuda.synchronize(self.device)
        row.device_ms.append(statistics.median(a.elapsed_time(b) for a, b in events))
        begun = time.perf_counter()
        for _ in range(self.calls):
            result = call()
            del result
        torch.cuda.synchronize(self.device)
        row.wall_ms.append((time.perf_counter() - begun) * 1e3 / self.calls)
