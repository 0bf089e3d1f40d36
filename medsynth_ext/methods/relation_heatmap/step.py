"""Joint training, and what the other two ways to use a second domain share with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from medsynth_ext.engines import StepTrainer
from medsynth_ext.engines.processes import rank_and_world
from medsynth_ext.methods.relation_heatmap.preparation import DomainBatch, FramePreparation

__all__ = ["DomainStep", "JointStep"]

FrameLoss = Callable[[Tensor, Tensor], Tensor]  # of maps and targets (B, C, H, W)


class DomainStep(ABC):
    """One iteration on frames of two domains; a subclass updates its networks.

    As in ``SupervisedStep``, what is random about a frame is a function of the seed and of its number in the training,
    so every iteration can be made again, and N processes see what one with N times the batch would see.

    Args:
        prepare: from a batch with ``image``, ``points`` and ``domain`` to frames and targets.
        loss: error of every frame (B,), or one for all.
        lambda_sim: weight of the simulator's frames.

    Raises:
        ValueError: for a weight outside [0, 1].
    """

    def __init__(self, prepare: FramePreparation, loss: FrameLoss, *, lambda_sim: float = 1.0) -> None:
        if not 0 <= lambda_sim <= 1:
            raise ValueError(f"lambda_sim must be in [0, 1], got {lambda_sim}")
        self.prepare = prepare
        self.loss = loss
        self.lambda_sim = lambda_sim

    @abstractmethod
    def update(self, engine: StepTrainer, batch: DomainBatch) -> tuple[dict[str, Tensor], Tensor]:
        """Update the networks; returns the named terms, ``loss`` among them, and heatmaps to show."""

    def supervised(self, pred: Tensor, batch: DomainBatch) -> Tensor:
        """The weighted mean error over all frames."""
        weights = torch.where(batch.intraop, 1.0, self.lambda_sim)
        return (weights * self.loss(pred, batch.target)).mean()

    def __call__(self, engine: StepTrainer, batch: Mapping[str, Any]) -> dict[str, Any]:
        rank, world = rank_and_world()
        first = ((engine.state.iteration - 1) * world + rank) * len(batch["image"])
        prepared = self.prepare(batch, first, torch.device(engine.state.device))
        terms, pred = self.update(engine, prepared)
        scalars = {name: value.detach() for name, value in terms.items()}
        values = self.prepare.values(prepared.image)
        return {**scalars, "image": values, "label": prepared.target, "pred": pred.detach()}


class JointStep(DomainStep):
    """Both domains as one training set, the simulator's frames weighted (the method that was submitted).

    Args:
        network: maps frames to heatmaps.
        optimizer: updates it.
        prepare, loss, lambda_sim: see ``DomainStep``.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        prepare: FramePreparation,
        loss: FrameLoss,
        *,
        lambda_sim: float = 1.0,
    ) -> None:
        super().__init__(prepare, loss, lambda_sim=lambda_sim)
        self.network = network
        self.optimizer = optimizer

    def update(self, engine: StepTrainer, batch: DomainBatch) -> tuple[dict[str, Tensor], Tensor]:
        self.network.train()
        with engine.autocast():
            pred = self.network(batch.image)
        pred = pred.float()
        loss = self.supervised(pred, batch)
        engine.update(loss, self.optimizer)
        return {"loss": loss}, pred
