"""Results as JSON and as Markdown tables."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.goals import Outcome
from benchmarks.harness import Case, Row

__all__ = ["case_table", "goal_table", "machine_lines", "write_json", "write_text"]


def write_text(path: Path, text: str) -> None:
    """Write a file in one piece: a run that is stopped leaves the last complete version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def write_json(path: Path, data: dict[str, Any]) -> None:
    """The same for JSON."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def _number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def _pair(row: Row, clock: str, factor: float = 1.0) -> str:
    return f"{_number(row.least(clock) * factor)} / {_number(row.median(clock) * factor)}"


def _share(row: Row, bandwidth: float) -> str:
    """Least bytes over time, and what part of the copy bandwidth that is."""
    if not row.least_bytes:
        return "-"
    rate = row.gb_per_s()
    return "-" if math.isnan(rate) else f"{_number(rate)} ({100 * rate / bandwidth:.0f} %)"


def case_table(case: Case, rows: Sequence[Row], *, device: str, bandwidth: float) -> str:
    """One case: the fastest first, then those that were not measured, with the reason."""
    gpu = device == "cuda"
    clock = "device" if gpu else "cpu"
    measured = sorted((r for r in rows if r.status == "measured"), key=lambda r: r.median(clock))
    ours = [r for r in measured if r.role == "out"] or [r for r in measured if r.role == "fresh"]
    base = ours[0].median(clock) if ours else math.nan
    times = "device min / median µs | wall min / median ms" if gpu else "wall min / median ms | CPU min / median ms"
    moved = f" Least bytes that must move: {case.least_bytes / 1e6:.1f} MB." if case.least_bytes else ""
    lines = [f"### {case.title}", "", f"Key `{case.key}`.{moved}", ""]
    lines += [f"| | {times} | {clock} vs ours | extra peak MiB | GB/s (of copy) | runs | agreement |"]
    lines += ["|---|---:|---:|---:|---:|---:|---:|---|"]
    for r in measured:
        pairs = f"{_pair(r, 'device', 1e3)} | {_pair(r, 'wall')}" if gpu else f"{_pair(r, 'wall')} | {_pair(r, 'cpu')}"
        name = f"**{r.name}**" if r.role in ("out", "fresh") else r.name
        memory = "-" if r.extra_peak_mib is None else f"{r.extra_peak_mib:.0f}"
        remark = "; ".join(t for t in (r.agreement, r.note) if t)
        cells = (
            name,
            pairs,
            _number(r.median(clock) / base),
            memory,
            _share(r, bandwidth),
            str(len(r.wall_ms)),
            remark,
        )
        lines.append("| " + " | ".join(cells) + " |")
    for r in rows:
        if r.status != "measured":
            said = r.agreement.replace("|", "\\|")
            lines.append(f"| {r.name} | {r.status.upper()} | - | - | - | - | 0 | {said} |")
    return "\n".join(lines) + "\n"


def goal_table(outcomes: Sequence[Outcome]) -> str:
    """Goal, wanted, measured, met or not."""
    lines = ["| goal | wanted | measured | met |", "|---|---|---|---|"]
    for o in outcomes:
        figures = [
            f"{'**' if k == o.decided_by else ''}{k}: {_number(v)}{'**' if k == o.decided_by else ''}"
            for k, v in o.figures.items()
        ]
        measured = ", ".join(figures) or "-"
        met = {True: "yes", False: "**no**", None: f"not judged: {o.reason}"}[o.met]
        lines.append(f"| {o.goal} | {o.wanted} | {measured} | {met} |")
    return "\n".join(lines) + "\n"


def machine_lines(facts: dict[str, Any], rounds: int) -> str:
    """Where and how it was measured, in words."""
    versions = ", ".join(f"{name} {v}" for name, v in facts["versions"].items() if v)
    where = f"{facts['gpu']} beside {facts['processor']}" if facts["gpu"] else facts["processor"]
    busy = (
        "other work was running, so CPU time decides the ratios"
        if facts["busy"]
        else "the machine was quiet, so wall time decides the ratios"
    )
    return (
        f"{where}, {facts['cores']} cores, {facts['threads']} threads for everyone; copy bandwidth "
        f"{facts['bandwidth_gb_per_s']:.1f} GB/s (read and written bytes). Load average before the run "
        f"{facts['load_before']:.2f}: {busy}. {rounds} rounds in which the peers take turns, after one warm-up; ratios "
        f"are of medians. Python {facts['python']}, {versions}. Measured {facts['date']}.\n"
    )
