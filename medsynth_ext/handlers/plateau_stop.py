"""Ends a training when one of its terms has stopped falling."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events

__all__ = ["PlateauStop"]


class PlateauStop:
    """Stops the engine after ``patience`` epochs in which the mean of a term was not lower than ever before.

    Epochs without the term do not count. Give it to the ``Checkpoint``, so that a training that goes on remembers, and
    attach it before that. MONAI's ``EarlyStopHandler`` has no state that could be saved.

    Args:
        term: name of a scalar in the engine's output.
        patience: number of epochs; ``None`` never stops.

    Raises:
        ValueError: for a patience below 1.
    """

    def __init__(self, term: str, patience: int | None) -> None:
        if patience is not None and patience < 1:
            raise ValueError(f"patience must be at least 1 epoch, got {patience}")
        self.term = term
        self.patience = patience
        self.best: float | None = None
        self.waited = 0
        self._values: list[float] = []

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._values.clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._check)

    def _collect(self, engine: Engine) -> None:
        output: Any = engine.state.output
        figures = output[0] if isinstance(output, list) else output
        if self.term in figures:
            self._values.append(float(figures[self.term]))

    def _check(self, engine: Engine) -> None:
        if not self._values:
            return
        mean = sum(self._values) / len(self._values)
        if self.best is None or mean < self.best:
            self.best, self.waited = mean, 0
            return
        self.waited += 1
        if self.patience is not None and self.waited >= self.patience:
            engine.logger.info(
                f"stopping after epoch {engine.state.epoch}: {self.term} has not fallen for {self.patience} epochs"
            )
            engine.terminate()

    def state_dict(self) -> dict[str, Any]:
        """The best mean, and the epochs since then."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the state of an earlier run."""
        self.best, self.waited = state["best"], state["waited"]
