"""Learning rates that are a function of the epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from ignite.engine import Engine, Events

__all__ = ["RateSchedule"]


class RateSchedule:
    """Sets the rates of several optimisers when an epoch starts, each to its own first one times ``rate(epochs done)``.

    It has no state, so a training that goes on has the right rates at once, and optimisers that rest in a stage do not
    matter.

    Args:
        rate: such as ``Stages.rate``.
        optimizers: whose rates they are; their own ``lr`` at construction is the full one.
    """

    def __init__(self, rate: Callable[[int], float], optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self.rate = rate
        self.optimizers = tuple(optimizers)

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        share = self.rate(engine.state.epoch - 1)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = share * optimizer.defaults["lr"]
