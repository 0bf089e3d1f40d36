"""From a batch of labelled frames to what a step needs, on the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from medsynth_ext.engines.sample_states import sample_states
from medsynth_ext.methods.relation_heatmap.targets import PointTarget

__all__ = ["INTRAOP", "SIM", "DomainBatch", "FramePreparation"]

SIM, INTRAOP = 0, 1  # as the paper labels them


@dataclass(frozen=True)
class DomainBatch:
    """Frames of two domains and their targets."""

    image: Tensor  # (B, 3, H, W)
    target: Tensor  # (B, C, H, W)
    intraop: Tensor  # (B,) bool


class FramePreparation:
    """Augment frames and points, draw the targets, shift the values, and pad to what the network takes.

    Args:
        target: draws heatmaps of points.
        augmentation: ``augmentation(image, points, states)`` gives both again; nothing is changed without one.
        seed: key of the augmentation's random numbers.
        mean: subtracted from the values in [0, 1].
        std: what they are divided by then.
        multiple: sides are padded to multiples of it, below and on the right.
    """

    def __init__(
        self,
        target: PointTarget,
        *,
        augmentation: Callable[..., tuple[Tensor, Tensor]] | None = None,
        seed: int = 0,
        mean: float = 0.5,
        std: float = 0.5,
        multiple: int = 32,
    ) -> None:
        self.target = target
        self.augmentation = augmentation
        self.seed = seed
        self.mean = mean
        self.std = std
        self.multiple = multiple

    @torch.no_grad()
    def __call__(self, batch: Mapping[str, Any], first: int, device: torch.device) -> DomainBatch:
        """Prepare the batch whose first frame has the number ``first`` in the training."""
        image, points = (
            batch[key].to(device, non_blocking=True).as_subclass(torch.Tensor) for key in ("image", "points")
        )
        if self.augmentation is not None:
            image, points = self.augmentation(image, points, sample_states(self.seed, first, len(image)))
        rows, columns = ((-n) % self.multiple for n in image.shape[2:])
        image = F.pad((image - self.mean) / self.std, (0, columns, 0, rows))
        target = self.target(points, image.shape[2:])
        return DomainBatch(image, target, batch["domain"].to(device) == INTRAOP)

    def values(self, image: Tensor) -> Tensor:
        """What is to be shown of a prepared image: values in [0, 1] again."""
        return image * self.std + self.mean
