"""The training step: slices come ready, one supervised update."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from medsynth_ext.engines import SupervisedStep

__all__ = ["OneShotStep"]


class OneShotStep(SupervisedStep):
    """One update on a batch of slices; the network gives a logit per pixel."""

    def make_pair(self, batch: Mapping[str, Any], first: int, device: torch.device) -> tuple[Tensor, Tensor]:
        image, label = (batch[key].to(device, non_blocking=True) for key in ("image", "label"))
        return image, label

    def show(self, logits: Tensor) -> Tensor:
        return (logits.float() > 0).float()
