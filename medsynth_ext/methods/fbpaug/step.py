"""The training step: augment slices on the device, then one supervised update."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from medsynth_ext.engines import SupervisedStep, sample_states
from medsynth_ext.methods.fbpaug.augmentation import SliceAugmentation

__all__ = ["SliceStep"]


class SliceStep(SupervisedStep):
    """One update on augmented slices; the network gives one logit per pixel.

    Args:
        augmentation: from HU to network inputs.
        network: maps the image to logits.
        loss: ``loss(logits, label)``.
        optimizer: updates the network.
        options: of ``SupervisedStep``.
    """

    def __init__(
        self,
        augmentation: SliceAugmentation,
        network: nn.Module,
        loss: Callable,
        optimizer: torch.optim.Optimizer,
        **options: Any,
    ) -> None:
        super().__init__(network, loss, optimizer, **options)
        self.augmentation = augmentation

    def make_pair(self, batch: Mapping[str, Any], first: int, device: torch.device) -> tuple[Tensor, Tensor]:
        image, label = (batch[key].to(device, non_blocking=True) for key in ("image", "label"))
        return self.augmentation(image, label, sample_states(self.seed, first, len(image)))

    def show(self, logits: Tensor) -> Tensor:
        return (logits.float() > 0).float()
