"""Precision against sensitivity over the threshold on the score."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor

from medsynth_ext.metrics import PointDetection
from medsynth_ext.metrics.landmark_tables import write_rows

__all__ = ["ThresholdSweep", "sweep_scores"]

Found = tuple[Tensor, Tensor, Tensor]  # candidates (P, 2), scores (P,), labels (L, 2) of a frame


def sweep_scores(found: Sequence[Found], thresholds: Sequence[float], radius: float) -> list[dict[str, float]]:
    """Precision, sensitivity and F1 of all frames together when candidates of at least that score count.

    Args:
        found: candidates of every frame, however low their score, and its labels (NaN for none).
        thresholds: in any order.
        radius: largest distance of a match.
    """
    rows = []
    for threshold in thresholds:
        metric = PointDetection(radius)
        for points, scores, labels in found:
            metric(points[scores >= threshold][None].double(), labels[None].double())
        scored = metric.scores()
        rows.append({"threshold": threshold, **{name: scored[name] for name in ("precision", "sensitivity", "f1")}})
    return rows


class ThresholdSweep:
    """Writes ``threshold_sweep.csv`` after an evaluation: a row per threshold.

    Decode candidates without a threshold under ``candidate_points`` and ``candidate_scores``, with ``DecodePointsd``.
    The bounds on the number of points are not applied. Choose a threshold on a validation set, never on test data.

    Args:
        output_dir: where the file is.
        radius: largest distance of a match in pixels of the frames.
        thresholds: 0.05 to 0.95 by default.
    """

    def __init__(
        self, output_dir: str | os.PathLike, *, radius: float, thresholds: Sequence[float] | None = None
    ) -> None:
        self.path = Path(output_dir) / "threshold_sweep.csv"
        self.radius = radius
        self.thresholds = [round(0.05 * i, 2) for i in range(1, 20)] if thresholds is None else list(thresholds)
        self.found: list[Found] = []

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.add_event_handler(Events.STARTED, self.found.clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _add(self, engine: Engine) -> None:
        output: list[dict[str, Any]] = engine.state.output  # type: ignore[assignment]
        for sample in output:
            labels = torch.as_tensor(sample["label"]).as_subclass(torch.Tensor).cpu()
            self.found.append((sample["candidate_points"], sample["candidate_scores"], labels))

    def _write(self) -> None:
        if self.found:
            write_rows(self.path, sweep_scores(self.found, self.thresholds, self.radius))
