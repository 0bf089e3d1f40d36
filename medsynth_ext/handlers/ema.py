"""An exponential moving average of a network's weights."""

from __future__ import annotations

import copy
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.nn.parallel import DistributedDataParallel

__all__ = ["EMA"]


class EMA:
    """Keeps ``network``, a copy whose weights and floating-point buffers average those of the trained network.

    After update s (from 0) the average is ``a = d a + (1 - d) w`` with ``d = min(decay, (1 + s) / (10 + s))``, so that
    the first steps do not keep the initial weights for long. Batch-norm statistics are averaged like weights; integer
    buffers are copied. Attach it to the trainer; use ``ema.network`` for validation and for the weights that ship. Until
    the first update the copy follows the network, so weights loaded before the training starts are taken over.

    Args:
        network: the network in training; a ``DistributedDataParallel`` is looked into.
        decay: weight of the old average, 0 <= decay < 1.

    Raises:
        ValueError: for a decay outside of [0, 1).
    """

    def __init__(self, network: nn.Module, *, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {decay}")
        self.decay = decay
        self.updates = 0
        self.source = network.module if isinstance(network, DistributedDataParallel) else network
        self.network = copy.deepcopy(self.source).requires_grad_(False).eval()

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.update)

    def start(self) -> None:
        """Take over the network's weights when nothing was averaged yet."""
        if self.updates == 0:
            self.network.load_state_dict(self.source.state_dict())

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the network's present weights."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for average, value in zip(self.network.state_dict().values(), self.source.state_dict().values()):
            if average.is_floating_point():
                average.lerp_(value, 1 - decay)
            else:
                average.copy_(value)
        self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        """The averaged weights and the number of updates."""
        return {"network": self.network.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved average."""
        self.network.load_state_dict(state["network"])
        self.updates = state["updates"]
