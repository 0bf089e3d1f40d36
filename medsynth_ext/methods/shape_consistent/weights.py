"""All networks of a joint training as files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch import nn

from medsynth_ext.handlers import WeightsWriter

__all__ = ["JointWeights"]


class JointWeights:
    """A :class:`medsynth_ext.handlers.WeightsWriter` for each of several networks, which are written together.

    Args:
        networks: name of the file, without ``.pt``, to network.
        folder: where the files go.
        metric: as for ``WeightsWriter``: with one, attach it to an evaluator.
        first_epoch: nothing is written in earlier ones. A segmenter may be at its best before there is a translation.
    """

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        folder: str | Path,
        *,
        metric: str | None = None,
        first_epoch: int = 1,
    ) -> None:
        self.writers = [
            WeightsWriter(net, Path(folder) / f"{name}.pt", metric=metric) for name, net in networks.items()
        ]
        self.first_epoch = first_epoch

    def attach(self, engine: Engine) -> None:
        """Register with a trainer, or with an evaluator when there is a metric."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if engine.state.epoch < self.first_epoch:
            return
        for writer in self.writers:
            writer(engine)

    def state_dict(self) -> dict[str, Any]:
        """The best value so far."""
        return self.writers[0].state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the best value of an earlier run."""
        for writer in self.writers:
            writer.load_state_dict(state)
