"""Errors in the pixels and millimetres of the original images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from medsynth_ext.methods.dag.placing import to_original
from medsynth_ext.methods.dag.radiographs import radiograph_name
from medsynth_ext.metrics.landmark_error import LandmarkError
from medsynth_ext.metrics.landmark_tables import error_rows, write_rows, write_summary

__all__ = ["ConvergenceCheck", "ErrorTables", "NotConvergedError", "check_convergence"]


class ErrorTables:
    """Writes ``errors.csv``, a row per case and landmark, and ``summary.json``.

    Errors are Euclidean, in pixels of the file (``error_px``), as a share of its longer side (``error_width``) and,
    where the spacing is known, in millimetres. A failure is an error above ``failure`` of the longer side.

    Args:
        output_dir: where the files are.
        names: of the landmarks.
        failure: share of the longer side.
    """

    def __init__(self, output_dir: str | Path, *, names: Sequence[str], failure: float = 0.05) -> None:
        self.output_dir = Path(output_dir)
        self.names = [str(name) for name in names]
        self.failure = failure
        self.metrics = {
            "px": LandmarkError(radii_mm=()),
            "width": LandmarkError(radii_mm=(failure,)),
            "mm": LandmarkError(),
        }
        self.cases: list[str] = []

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def _start(self) -> None:
        self.cases.clear()
        for metric in self.metrics.values():
            metric.reset()

    def _add(self, engine: Engine) -> None:
        output: list[dict[str, Any]] = engine.state.output  # type: ignore[assignment]
        for sample in output:
            image = sample["image"]
            found, true = (to_original(torch.as_tensor(sample[k])[:, :2], image)[None] for k in ("pred", "label"))
            spacing = torch.as_tensor(image.meta["original_affine"]).cpu().diagonal()[:2]
            longest = max(int(n) for n in image.meta["spatial_shape"])
            self.metrics["px"](found, true)
            self.metrics["width"](found, true, spacing_mm=1 / longest)
            known = bool(image.meta["spacing_known"])
            self.metrics["mm"](found, true if known else torch.full_like(true, torch.nan), spacing_mm=spacing)
            self.cases.append(radiograph_name(str(image.meta["filename_or_obj"])))

    def write(self) -> None:
        """Write what was measured."""
        tables = {
            unit: {(row["case"], row["landmark"]): row["error_mm"] for row in error_rows(m, self.cases, self.names)}
            for unit, m in self.metrics.items()
        }
        rows = [
            {"case": case, "landmark": name, **{f"error_{unit}": t.get((case, name)) for unit, t in tables.items()}}
            for case, name in tables["px"]
        ]
        write_rows(self.output_dir / "errors.csv", rows)
        summary = {
            unit: {key.replace("_mm", ""): value for key, value in metric.scores().items()}
            for unit, metric in self.metrics.items()
        }
        rate = summary["width"].pop(f"within_{self.failure:g}")
        write_summary(self.output_dir / "summary.json", {**summary, "failure_rate": 1 - rate, "failure": self.failure})


class NotConvergedError(RuntimeError):
    """The supervised stage has not learnt enough for the semi-supervised one; the message says what was measured."""


class ConvergenceCheck:
    """Lets an evaluator look at the network and stops the training when its error is too large.

    With few labelled images the supervised stage may not converge; the teacher's points are then worthless, and so is
    everything that a student learns from them.

    Args:
        evaluator: measures the network that the training starts from.
        metric: name of its metric, an error as a share of the width.
        limit: largest error.

    Raises:
        NotConvergedError: when the training starts anew from a network with a larger error.
    """

    def __init__(self, evaluator: Engine, *, metric: str, limit: float) -> None:
        self.evaluator = evaluator
        self.metric = metric
        self.limit = limit

    def attach(self, engine: Engine) -> None:
        """Register with a trainer; after the ``Checkpoint``, so that one that goes on is not measured again."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        if engine.state.iteration > 0:
            return
        self.evaluator.run()
        error = float(self.evaluator.state.metrics[self.metric])
        check_convergence(error, self.limit)
        # The evaluation before the training must not count as one of its epochs.
        self.evaluator.state.epoch = 0


def check_convergence(error: float, limit: float) -> None:
    """Raise ``NotConvergedError`` unless ``error`` (share of the width) is at most ``limit``."""
    if not error <= limit:
        raise NotConvergedError(
            f"stage 1 did not converge: its mean error on the validation images is {100 * error:.1f} % of the width, "
            f"wanted at most {100 * limit:g} %; the semi-supervised stage would learn from wrong points. Label more "
            "images or train stage 1 longer"
        )
