"""Training on images that are made from label maps on the device, one new image per sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from medsynth_ext.engines.supervised_step import SupervisedStep

__all__ = ["SyntheticBatch", "SyntheticStep"]

Generator = Callable[..., tuple[Tensor, Tensor]]


class SyntheticStep(SupervisedStep):
    """One supervised update on freshly synthesised images.

    The generator is called as ``generator(labels, seed=seed, index=index)``, with ``center=batch["center"]`` when the
    batch has one, and returns the image ``(B, C, *S)`` and the target ``(B, 1, *S)``; ``index`` is the number of the
    first sample as ``SupervisedStep`` counts them.

    Args:
        generator: makes image and target from label maps.
        network: maps the image to logits.
        loss: as in ``SupervisedStep``.
        optimizer: updates the network.
        options: of ``SupervisedStep``.
    """

    def __init__(
        self,
        generator: Generator,
        network: nn.Module,
        loss: Callable,
        optimizer: torch.optim.Optimizer,
        **options: Any,
    ) -> None:
        super().__init__(network, loss, optimizer, **options)
        self.generator = generator

    def make_pair(self, batch: Mapping[str, Any], first: int, device: torch.device) -> tuple[Tensor, Tensor]:
        labels = batch["label"].to(device, non_blocking=True)  # (B, 1, D, H, W)
        center = {"center": batch["center"]} if "center" in batch else {}  # (B, 3)
        return self.generator(labels, seed=self.seed, index=first, **center)


class SyntheticBatch:
    """``prepare_batch`` of an evaluator: makes image and target from each label map, always the same.

    Sample b of the batch is addressed by ``(seed, batch["index"][b])``, so the data set decides which image is made.

    Args:
        generator: as in ``SyntheticStep``.
        seed: key of the random numbers; choose another one than the training's.
    """

    def __init__(self, generator: Generator, *, seed: int) -> None:
        self.generator = generator
        self.seed = seed

    @torch.no_grad()
    def __call__(
        self, batch: Mapping[str, Any], device: torch.device, non_blocking: bool = False, **_: Any
    ) -> tuple[Tensor, Tensor]:
        labels = batch["label"].to(device, non_blocking=non_blocking)
        pairs = []
        for b, index in enumerate(batch["index"]):
            center = {"center": batch["center"][b : b + 1]} if "center" in batch else {}
            pairs.append(self.generator(labels[b : b + 1], seed=self.seed, index=int(index), **center))
        image, target = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        return image, target
