"""The training's figures as CSV (each iteration) and JSON (each epoch)."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

from ignite.engine import Engine, Events

from medsynth_ext.data.files import replacing
from medsynth_ext.engines.processes import rank_and_world
from medsynth_ext.handlers.scalars import scalars

__all__ = ["LossLog"]


class LossLog:
    """Writes ``loss.csv`` (a row per iteration) and ``epochs.json`` (a record per epoch) to a folder.

    A row has the epoch, the iteration, the seconds it took and every scalar of the engine's output (the loss and its
    terms). A record has the epoch, the iteration, the means of the scalars, and the evaluator's metrics if it ran in
    that epoch. When a training goes on from a checkpoint, what had been written after that checkpoint is removed, so no
    row is lost or doubled. Attach it after the ``ValidationHandler`` and before the ``Checkpoint``. Only the first
    process writes.

    Args:
        folder: where the files are.
        evaluator: the validation engine whose metrics to record.
    """

    def __init__(self, folder: str | Path, *, evaluator: Engine | None = None) -> None:
        self.csv_path = Path(folder) / "loss.csv"
        self.json_path = Path(folder) / "epochs.json"
        self.evaluator = evaluator
        self._file: TextIO | None = None
        self._columns: list[str] = ["epoch", "iteration", "seconds"]
        self._epoch: list[dict[str, float]] = []
        self._records: list[dict[str, Any]] = []
        self._started = 0.0

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        if rank_and_world()[0] > 0:
            return
        # A Checkpoint loads when the engine has STARTED, so the iteration to go on from is known only later.
        engine.add_event_handler(Events.EPOCH_STARTED, self._epoch_started)
        engine.add_event_handler(Events.ITERATION_STARTED, self._iteration_started)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._iteration_completed)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch_completed)
        engine.add_event_handler(Events.COMPLETED, self._close)

    def _epoch_started(self, engine: Engine) -> None:
        self._epoch = []
        if self._file is None:
            done = engine.state.iteration
            records = json.loads(self.json_path.read_text()) if self.json_path.exists() else []
            self._records = [record for record in records if record["iteration"] <= done]
            self._rewrite(row for row in self._complete_rows() if int(row["iteration"]) <= done)

    def _iteration_started(self) -> None:
        self._started = time.perf_counter()

    def _iteration_completed(self, engine: Engine) -> None:
        figures = scalars(engine.state.output)  # type: ignore[arg-type]
        new = [name for name in figures if name not in self._columns]
        if new:  # the first row, or the end of a warm-up with another loss
            self._columns += new
            self._rewrite(list(self._complete_rows()))
        seconds = round(time.perf_counter() - self._started, 4)
        row = {"epoch": engine.state.epoch, "iteration": engine.state.iteration, "seconds": seconds, **figures}
        assert self._file is not None
        csv.DictWriter(self._file, self._columns).writerow(row)
        self._file.flush()
        self._epoch.append(figures)

    def _epoch_completed(self, engine: Engine) -> None:
        names = {name: None for figures in self._epoch for name in figures}
        columns = {name: [figures[name] for figures in self._epoch if name in figures] for name in names}
        record: dict[str, Any] = {"epoch": engine.state.epoch, "iteration": engine.state.iteration}
        record |= {name: sum(values) / len(values) for name, values in columns.items()}
        if self.evaluator is not None and self.evaluator.state.epoch == engine.state.epoch:
            record["metrics"] = scalars(self.evaluator.state.metrics)
        self._records.append(record)
        with replacing(self.json_path) as temporary:
            temporary.write_text(json.dumps(self._records, indent=4) + "\n")

    def _complete_rows(self) -> Iterable[dict[str, str]]:
        """The rows of the file; the last one is left out when a killed program did not finish writing it."""
        text = self.csv_path.read_text() if self.csv_path.exists() else ""
        return csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]))

    def _rewrite(self, rows: Iterable[dict[str, str]]) -> None:
        rows = list(rows)
        self._close()
        self._columns = list(dict.fromkeys([*self._columns, *(rows[0] if rows else ())]))
        with replacing(self.csv_path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(rows)
        self._file = self.csv_path.open("a", newline="")

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
