"""Writes what came out: ``claims.json``, a figure, and lines for the terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from medsynth_ext.claims.claim import Outcome
from medsynth_ext.data.files import replacing, write_json

__all__ = ["draw_conditions", "outcome_lines", "write_report"]

HELD, MISSED = "#2a7f4f", "#b5382a"


def write_report(
    folder: Path, *, bundle: str, record: dict[str, Any], outcomes: Sequence[Outcome], figure: Figure | None = None
) -> None:
    """Write ``claims.json`` and ``claims_<scale>.png``; the records of other scales in the file are kept.

    Raises:
        ValueError: when there is a ``claims.json`` that is not one of these reports.
    """
    path = folder / "claims.json"
    runs: dict[str, Any] = {}
    if path.is_file():
        try:
            runs = dict(json.loads(path.read_text(encoding="utf-8"))["runs"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} is no report of claims ({error!r}); remove it or choose another folder"
            ) from error
    runs[record["scale"]] = record
    write_json(path, {"bundle": bundle, "runs": runs})
    figure = draw_conditions(outcomes, title=f"{bundle}, {record['scale']}") if figure is None else figure
    FigureCanvasAgg(figure)
    with replacing(folder / f"claims_{record['scale']}.png") as temporary:
        figure.savefig(temporary, dpi=110)


def outcome_lines(outcomes: Sequence[Outcome]) -> list[str]:
    """A table for the terminal: a line per condition."""
    lines = []
    for outcome in outcomes:
        lines.append(f"claim {outcome.claim.id}: {'held' if outcome.held else 'NOT HELD'}. {outcome.claim.sentence}")
        for condition in outcome.conditions:
            mark = "ok  " if condition.held else "miss"
            lines.append(
                f"    {mark} {condition.what}: {condition.mean:.4g} (wanted {condition.relation} {condition.limit:g})"
            )
        lines.extend(f"    not measured: {text}" for text in outcome.claim.not_measured)
    held = sum(outcome.held for outcome in outcomes)
    lines.append(f"{held} of {len(outcomes)} claims held")
    return lines


def draw_conditions(outcomes: Sequence[Outcome], *, title: str) -> Figure:
    """Every condition as a row: its words, a point per seed, the limit as a line, each on an axis of its own."""
    rows = [(outcome.claim.id, condition) for outcome in outcomes for condition in outcome.conditions]
    figure = Figure(figsize=(11, 0.42 * len(rows) + 0.8), layout="constrained")
    figure.suptitle(title, fontsize=11)
    grid = figure.add_gridspec(max(len(rows), 1), 2, width_ratios=[1.6, 1])
    for row, (name, condition) in enumerate(rows):
        text, axis = figure.add_subplot(grid[row, 0]), figure.add_subplot(grid[row, 1])
        text.axis("off")
        colour = HELD if condition.held else MISSED
        words = f"{name}. {condition.what} {condition.relation} {condition.limit:g}: {condition.mean:.4g}"
        text.text(1, 0.5, words, ha="right", va="center", fontsize=8, color=colour, transform=text.transAxes)
        axis.axvline(condition.limit, color="0.4", linewidth=1)
        axis.plot(condition.values, [0] * len(condition.values), "o", color=colour, markersize=5)
        axis.set_yticks([])
        axis.tick_params(labelsize=6, pad=1, length=2)
        axis.margins(x=0.3)
    return figure
