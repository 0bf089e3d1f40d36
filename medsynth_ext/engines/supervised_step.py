"""One supervised update on a batch whose images are made or augmented on the device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from monai.inferers import Inferer, SimpleInferer
from torch import Tensor, nn

from medsynth_ext.engines.processes import rank_and_world
from medsynth_ext.engines.trainer import StepTrainer

__all__ = ["SupervisedStep"]


class SupervisedStep(ABC):
    """Make image and target of a batch, run the network, update it; a subclass says how the pair is made.

    Every entry of the batch has one item per sample. With G samples per iteration over all processes, sample b of
    rank r in iteration i (from 1) has the number ``(i - 1) * G + r * B + b``: what is random about a sample is a
    function of ``(seed, number)``, so every training image can be made again, and N processes see the images that one
    with the same G would see.

    Args:
        network: maps the image to logits.
        loss: ``loss(pred, target)``; returns a scalar, or a dict of named scalars that are summed.
        optimizer: updates the network.
        seed: key of the random numbers of all images.
        inferer: runs the network; a plain call when ``None``.
        warm_up_loss: used in place of ``loss`` in the first ``warm_up_iterations``.
        warm_up_iterations: length of the warm-up.

    Raises:
        ValueError: when a warm-up is asked for without its loss.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Callable,
        optimizer: torch.optim.Optimizer,
        *,
        seed: int = 0,
        inferer: Inferer | None = None,
        warm_up_loss: Callable | None = None,
        warm_up_iterations: int = 0,
    ) -> None:
        if warm_up_iterations > 0 and warm_up_loss is None:
            raise ValueError(f"warm_up_iterations is {warm_up_iterations}, so warm_up_loss must be given")
        self.network = network
        self.loss = loss
        self.optimizer = optimizer
        self.seed = seed
        self.inferer = SimpleInferer() if inferer is None else inferer
        self.warm_up_loss = warm_up_loss
        self.warm_up_iterations = warm_up_iterations

    @abstractmethod
    def make_pair(
        self, batch: Mapping[str, Any], first: int, device: torch.device
    ) -> tuple[Tensor, Tensor]:  # image (B, C, *S), target
        """Image and target of the batch whose first sample has the number ``first``; runs without gradients."""

    def show(self, logits: Tensor) -> Tensor:
        """What pictures and metrics see of the network's output."""
        return logits

    def __call__(self, engine: StepTrainer, batch: Mapping[str, Any]) -> dict[str, Any]:
        rank, world = rank_and_world()
        first = ((engine.state.iteration - 1) * world + rank) * len(next(iter(batch.values())))
        with torch.no_grad():
            image, target = self.make_pair(batch, first, torch.device(engine.state.device))
        self.network.train()
        with engine.autocast():
            pred = self.inferer(image, self.network)
        warm = engine.state.iteration <= self.warm_up_iterations
        terms = (self.warm_up_loss if warm else self.loss)(pred.float(), target)  # type: ignore[misc]
        if isinstance(terms, Tensor):
            terms = {"loss": terms}
        loss = terms.get("loss", sum(terms.values()))
        engine.update(loss, self.optimizer)
        scalars = {name: value.detach() for name, value in terms.items()}
        return {**scalars, "loss": loss.detach(), "image": image, "label": target, "pred": self.show(pred.detach())}
