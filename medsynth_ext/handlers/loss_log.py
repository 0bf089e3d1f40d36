"""The training's figures as CSV (each iteration) and JSON (each epoch)."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any, TextIO

import torch.distributed as dist
from ignite.engine import Engine, Events
from monai.utils import is_scalar

from medsynth_ext.handlers.files import write_atomically

__all__ = ["LossLog"]


class LossLog:
    """Writes ``loss.csv`` (a row per iteration) and ``epochs.json`` (a record per epoch) to a folder.

    A row has epoch, iteration, the seconds this iteration took and every scalar of the engine's output (the loss and its terms). A record
    has epoch, iteration, the means of the scalars, and the evaluator's metrics if it ran in that epoch. When a training
    goes on from a checkpoint, what had been written after that checkpoint is removed, so no row is lost or doubled.
    Attach it after the ``ValidationHandler`` and before the ``Checkpoint``. Only the first process writes.

    Args:
        folder: where the files are.
        evaluator: the validation engine whose metrics to record.
    """

    def __init__(self, folder: str | Path, *, evaluator: Engine | None = None) -> None:
        self.csv_path = Path(folder) / "loss.csv"
        self.json_path = Path(folder) / "epochs.json"
        self.evaluator = evaluator
        self._file: TextIO | None = None
        self._rows: list[dict[str, Any]] = []
        self._records: list[dict[str, Any]] = []
        self._started = 0.0

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        if dist.is_available() and dist.is_initialized() and dist.get_rank() > 0:
            return
        # A Checkpoint loads when the engine has STARTED, so the epoch to go on from is known only later.
        engine.add_event_handler(Events.EPOCH_STARTED, self._epoch_started)
        engine.add_event_handler(Events.ITERATION_STARTED, self._iteration_started)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._iteration_completed)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch_completed)
        engine.add_event_handler(Events.COMPLETED, self._close)

    def _epoch_started(self, engine: Engine) -> None:
        self._rows = []
        if self._file is None:
            done = engine.state.iteration
            kept = [row for row in _read_rows(self.csv_path) if row and int(row["iteration"]) <= done]
            records = json.loads(self.json_path.read_text()) if self.json_path.exists() else []
            self._records = [record for record in records if record["iteration"] <= done]
            write_atomically(self.csv_path, lambda file: file.write(_csv_text(kept).encode()))
            self._file = self.csv_path.open("a", newline="")

    def _iteration_started(self) -> None:
        self._started = time.perf_counter()

    def _iteration_completed(self, engine: Engine) -> None:
        output = engine.state.output[0] if isinstance(engine.state.output, list) else engine.state.output
        scalars = {name: float(value) for name, value in output.items() if is_scalar(value)}
        row = {
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "seconds": f"{time.perf_counter() - self._started:.4f}",
            **{name: repr(value) for name, value in scalars.items()},
        }
        assert self._file is not None
        header = self._file.tell() == 0
        self._file.write(_csv_text([row], header=header))
        self._file.flush()
        self._rows.append(scalars)

    def _epoch_completed(self, engine: Engine) -> None:
        names = {name: None for row in self._rows for name in row}
        means = {name: _mean([row[name] for row in self._rows if name in row]) for name in names}
        record = {"epoch": engine.state.epoch, "iteration": engine.state.iteration, **means}
        if self.evaluator is not None and self.evaluator.state.epoch == engine.state.epoch:
            metrics = self.evaluator.state.metrics
            record["metrics"] = {name: float(value) for name, value in metrics.items() if is_scalar(value)}
        self._records.append(record)
        text = json.dumps(self._records, indent=4) + "\n"
        write_atomically(self.json_path, lambda file: file.write(text.encode()))

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
