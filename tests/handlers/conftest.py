"""A training of a few numbers, to try handlers on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from medsynth_ext.engines import StepTrainer
from medsynth_ext.handlers import EMA


@dataclass
class Training:
    """Network, average, optimiser and scheduler of a regression with dropout, whose noise comes from torch's state."""

    epochs: int = 4
    handlers: list = field(default_factory=list)
    width: int = 3

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        self.network = torch.nn.Sequential(
            torch.nn.Linear(2, self.width), torch.nn.Dropout(0.3), torch.nn.Linear(self.width, 1)
        )
        self.ema = EMA(self.network)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=0.01)
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.9)
        self.losses: list[float] = []

    @property
    def objects(self) -> dict[str, Any]:
        return {"network": self.network, "ema": self.ema, "optimizer": self.optimizer, "scheduler": self.scheduler}

    def step(self, engine: StepTrainer, batch: torch.Tensor) -> dict:
        pred = self.network(batch)
        loss = ((pred - batch.sum(1, keepdim=True)) ** 2).mean()
        engine.update(loss, self.optimizer)
        self.ema.update()
        self.scheduler.step()
        self.losses.append(loss.item())
        return {"loss": loss.detach(), "double": 2 * loss.detach(), "pred": pred.detach()}

    def trainer(self, *handlers: Any, epochs: int | None = None) -> StepTrainer:
        data = torch.arange(12.0).reshape(6, 2) / 12
        loader = DataLoader(data, batch_size=2)
        return StepTrainer("cpu", epochs or self.epochs, loader, self.step, train_handlers=list(handlers))


@pytest.fixture
def make_training():
    return Training
