"""An exponential moving average of a network's weights."""

from __future__ import annotations

import copy
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.nn.parallel import DistributedDataParallel

__all__ = ["EMA", "EMAHandler"]


class EMA:
    """Keeps ``network``, a copy whose weights and floating-point buffers average those of the trained network.

    After update s (from 0) the average is ``a = d a + (1 - d) w`` with ``d = min(decay, (1 + s) / (1 + s + warm_up))``,
    so that the first steps do not keep the initial weights for long. Batch-norm statistics are averaged like weights;
    integer buffers are copied. Use ``ema.network`` for validation and for the weights that ship.

    Args:
        network: the network in training; a ``DistributedDataParallel`` is looked into.
        decay: weight of the old average, 0 <= decay < 1.
        warm_up: how slowly the weight of the old average grows to ``decay``; 1 gives ``1 - 1 / (s + 2)``, 0 none.

    Raises:
        ValueError: for a decay outside of [0, 1) or a negative warm-up.
    """

    def __init__(self, network: nn.Module, *, decay: float = 0.999, warm_up: float = 9.0) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {decay}")
        if warm_up < 0:
            raise ValueError(f"warm_up must not be negative, got {warm_up}")
        self.decay = decay
        self.warm_up = warm_up
        self.updates = 0
        self.source = network.module if isinstance(network, DistributedDataParallel) else network
        self.network = copy.deepcopy(self.source).requires_grad_(False).eval()

    def restart(self) -> None:
        """Take over the network's present weights, unless something was averaged already."""
        if self.updates == 0:
            self.network.load_state_dict(self.source.state_dict())

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the network's present weights."""
        decay = min(self.decay, (1 + self.updates) / (1 + self.updates + self.warm_up))
        weights = self.source.state_dict()
        for name, average in self.network.state_dict().items():
            if average.is_floating_point():
                average.lerp_(weights[name], 1 - decay)
            else:
                average.copy_(weights[name])
        self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        """The averaged weights and the number of updates."""
        return {"network": self.network.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved average."""
        self.network.load_state_dict(state["network"])
        self.updates = state["updates"]


class EMAHandler:
    """Updates an average after each iteration; weights that the network got before the training are taken over.

    Args:
        ema: the average, which other parts of a configuration refer to.
    """

    def __init__(self, ema: EMA) -> None:
        self.ema = ema

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, self.ema.restart)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.ema.update)
