"""The training step: augment slices on the device, then one supervised update."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from monai.inferers import Inferer, SimpleInferer
from torch import nn

from medsynth_ext.engines import StepTrainer
from medsynth_ext.engines.processes import rank_and_world
from medsynth_ext.methods.fbpaug.augmentation import SliceAugmentation

__all__ = ["SliceStep", "sample_states"]


def sample_states(seed: int, first: int, count: int) -> list[np.random.RandomState]:
    """A random state per sample, a function of (seed, number of the sample) alone."""
    keys = [np.array([seed, i], dtype=np.uint64) for i in range(first, first + count)]
    return [np.random.RandomState(np.random.Philox(key=key)) for key in keys]


class SliceStep:
    """One update on augmented slices.

    Sample b of rank r in iteration i (from 1), with G samples per iteration over all processes, is augmented with the
    random numbers of ``(seed, (i - 1) G + r B + b)``, so N processes see what one with the same G would see.

    Args:
        augmentation: from HU to network inputs.
        network: maps the image to logits.
        loss: ``loss(logits, label)``.
        optimizer: updates the network.
        seed: key of the random numbers.
        inferer: runs the network; a plain call when ``None``.
    """

    def __init__(
        self,
        augmentation: SliceAugmentation,
        network: nn.Module,
        loss: Callable,
        optimizer: torch.optim.Optimizer,
        *,
        seed: int = 0,
        inferer: Inferer | None = None,
    ) -> None:
        self.augmentation = augmentation
        self.network = network
        self.loss = loss
        self.optimizer = optimizer
        self.seed = seed
        self.inferer = SimpleInferer() if inferer is None else inferer

    def __call__(self, engine: StepTrainer, batch: Mapping[str, Any]) -> dict[str, Any]:
        image, label = (batch[key].to(engine.state.device, non_blocking=True) for key in ("image", "label"))
        rank, world = rank_and_world()
        first = ((engine.state.iteration - 1) * world + rank) * len(image)
        image, label = self.augmentation(image, label, sample_states(self.seed, first, len(image)))
        self.network.train()
        with engine.autocast():
            logits = self.inferer(image, self.network)
        loss = self.loss(logits.float(), label)
        engine.update(loss, self.optimizer)
        lesion = logits.detach().float() > 0
        return {"loss": loss.detach(), "image": image, "label": label, "pred": lesion.float()}
