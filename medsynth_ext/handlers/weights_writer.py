"""Writes the weights that ship, in half precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from medsynth_ext.data.files import replacing
from medsynth_ext.engines.processes import rank_and_world

__all__ = ["WeightsWriter", "half_state_dict"]


def half_state_dict(network: nn.Module) -> dict[str, Tensor]:
    """The state dict of ``network`` on the CPU with every trained parameter in float16.

    Buffers keep their precision: they are few, and the running variances of a deep network exceed float16.

    Raises:
        ValueError: for a parameter that is not finite in float16.
    """
    buffers = {name for name, _ in network.named_buffers()}
    state = {}
    for name, value in network.state_dict().items():
        value = value.detach().cpu()
        if value.is_floating_point() and name not in buffers:
            value = value.half()
            if not torch.isfinite(value).all():
                raise ValueError(f"'{name}' holds values that are not finite in half precision")
        state[name] = value.clone()
    return state


class WeightsWriter:
    """Writes a network's state dict to one file at the end of an epoch, atomically and in half precision.

    Attached to a trainer it writes every epoch. With ``metric`` it is attached to an evaluator and writes when that
    metric is better than ever before; give it to the ``Checkpoint``, so that a resumed training knows the best.

    Args:
        network: the network to write, for example ``ema.network``.
        path: the file, for example ``models/model.pt``.
        metric: name of the evaluator's metric; every epoch is written when ``None``.
        smaller_is_better: the metric is an error; by default a larger one is better.
    """

    def __init__(
        self, network: nn.Module, path: str | Path, *, metric: str | None = None, smaller_is_better: bool = False
    ) -> None:
        self.network = network.module if isinstance(network, DistributedDataParallel) else network
        self.path = Path(path)
        self.metric = metric
        self.smaller_is_better = smaller_is_better
        self.best: float | None = None

    def attach(self, engine: Engine) -> None:
        """Register with a trainer, or with an evaluator when there is a metric."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if self.metric is not None:
            value = float(engine.state.metrics[self.metric])
            sign = -1.0 if self.smaller_is_better else 1.0
            if not (self.best is None or sign * value > sign * self.best):
                return
            self.best = value
        if rank_and_world()[0] == 0:
            with replacing(self.path) as temporary:
                torch.save(half_state_dict(self.network), temporary)

    def state_dict(self) -> dict[str, Any]:
        """The best value so far."""
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the best value of an earlier run."""
        self.best = state["best"]
