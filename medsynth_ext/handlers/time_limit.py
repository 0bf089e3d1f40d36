"""Ends a training at the end of an epoch when its time is up."""

from __future__ import annotations

import time

from ignite.engine import Engine, Events

__all__ = ["TimeLimit"]


class TimeLimit:
    """Stops the engine at the end of the epoch after which another one would not fit into the time given.

    Attach it last, after the ``Checkpoint``.

    Args:
        minutes: from the start of this run; a training that goes on starts counting anew.
    """

    def __init__(self, minutes: float) -> None:
        if minutes <= 0:
            raise ValueError(f"minutes must be positive, got {minutes}")
        self.seconds = 60 * minutes
        self._started = self._last = 0.0

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._check)

    def _start(self) -> None:
        self._started = self._last = time.monotonic()

    def _check(self, engine: Engine) -> None:
        now = time.monotonic()
        epoch, self._last = now - self._last, now
        if now - self._started + epoch > self.seconds:
            engine.logger.info(
                f"stopping after epoch {engine.state.epoch}: the time limit is {self.seconds / 60:g} min"
            )
            engine.terminate()
