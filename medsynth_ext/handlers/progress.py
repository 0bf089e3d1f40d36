"""A progress bar per epoch with the loss and its terms."""

from __future__ import annotations

from ignite.engine import Engine
from ignite.handlers import ProgressBar as IgniteProgressBar

from medsynth_ext.engines.processes import rank_and_world
from medsynth_ext.handlers.scalars import scalars

__all__ = ["ProgressBar"]


class ProgressBar(IgniteProgressBar):
    """Ignite's bar with an ``attach`` that fits a bundle's list of handlers; shows the scalars of the output.

    Only the first process shows one.

    Args:
        description: text before the bar, for example ``"training"``.
    """

    def __init__(self, description: str = "training") -> None:
        super().__init__(persist=True, desc=description, mininterval=1.0)

    def attach(self, engine: Engine) -> None:  # type: ignore[override]
        """Register with a trainer or evaluator."""
        if rank_and_world()[0] == 0:
            super().attach(engine, output_transform=scalars)
