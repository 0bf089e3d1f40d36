"""The training step: augment frames and points on the device, draw the heatmap, then one supervised update."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from medsynth_ext import ops
from medsynth_ext.engines import SupervisedStep, sample_states
from medsynth_ext.transforms import PointFrameAugmentation

__all__ = ["PointMapStep"]


class PointMapStep(SupervisedStep):
    """One update on augmented frames; the target is one map with a Gaussian at every point.

    Args:
        augmentation: moves frames and points.
        network: maps the image to logits.
        loss: ``loss(logits, target)``.
        optimizer: updates the network.
        sigma: of the Gaussians in pixels of the network's input.
        target: further options of :func:`medsynth_ext.ops.render_point_map`.
        options: of ``SupervisedStep``.
    """

    def __init__(
        self,
        augmentation: PointFrameAugmentation,
        network: nn.Module,
        loss: Callable,
        optimizer: torch.optim.Optimizer,
        *,
        sigma: float,
        target: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(network, loss, optimizer, **options)
        self.augmentation = augmentation
        self.sigma = sigma
        self.target = dict(target or {})

    def make_pair(self, batch: Mapping[str, Any], first: int, device: torch.device) -> tuple[Tensor, Tensor]:
        image, points = (
            batch[key].as_subclass(torch.Tensor).to(device, non_blocking=True) for key in ("image", "points")
        )
        image, points = self.augmentation(image, points, sample_states(self.seed, first, len(image)))
        valid = ~points.isnan().any(-1)
        return image, ops.render_point_map(points, valid, image.shape[2:], self.sigma, **self.target)

    def show(self, logits: Tensor) -> Tensor:
        return logits.float().sigmoid()
