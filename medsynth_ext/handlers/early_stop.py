"""Ends a training whose validation no longer improves, also across interruptions."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events

__all__ = ["EarlyStop"]


class EarlyStop:
    """Ends the training after ``patience`` validations without a smaller value of a metric.

    Attach it to the trainer after the ``ValidationHandler``, and give it to the ``Checkpoint``: MONAI's own handler
    forgets its count when a training is interrupted.

    Args:
        evaluator: the validation engine.
        metric: name of its metric, an error.
        patience: validations.
        least_change: only a value that is smaller by more than this counts.
    """

    def __init__(self, evaluator: Engine, *, metric: str, patience: int, least_change: float = 0.0) -> None:
        if patience < 1:
            raise ValueError(f"patience must be at least 1, got {patience}")
        self.evaluator = evaluator
        self.metric = metric
        self.patience = patience
        self.least_change = least_change
        self.best: float | None = None
        self.waited = 0

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if self.evaluator.state.epoch != engine.state.epoch:
            return  # this epoch was not validated
        value = float(self.evaluator.state.metrics[self.metric])
        if self.best is None or value < self.best - self.least_change:
            self.best, self.waited = value, 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            engine.terminate()

    def state_dict(self) -> dict[str, Any]:
        """Best value and how long ago it was."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting."""
        self.best, self.waited = state["best"], state["waited"]
