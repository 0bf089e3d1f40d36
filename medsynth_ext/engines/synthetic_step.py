"""Training on images that are made from label maps on the device, one new image per sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from monai.inferers import Inferer, SimpleInferer
from torch import Tensor, nn

from medsynth_ext.engines.processes import rank_and_world
from medsynth_ext.engines.trainer import StepTrainer

__all__ = ["SyntheticBatch", "SyntheticStep"]

Generator = Callable[..., tuple[Tensor, Tensor]]


class SyntheticStep:
    """One supervised update on freshly synthesised images.

    The generator is called as ``generator(labels, seed=seed, index=index)``, with ``center=batch["center"]`` when the
    batch has one, and returns the image ``(B, C, *S)`` and the target ``(B, 1, *S)``. With G samples per iteration over
    all processes, sample b of rank r in iteration i (from 1) has the index ``(i - 1) * G + r * B + b``: every training
    image can be made again from ``(seed, index)``, and N processes see the images that one with the same G would see.

    Args:
        generator: makes image and target from label maps.
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
        generator: Generator,
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
        self.generator = generator
        self.network = network
        self.loss = loss
        self.optimizer = optimizer
        self.seed = seed
        self.inferer = SimpleInferer() if inferer is None else inferer
        self.warm_up_loss = warm_up_loss
        self.warm_up_iterations = warm_up_iterations

    def __call__(self, engine: StepTrainer, batch: Mapping[str, Any]) -> dict[str, Any]:
        labels = batch["label"].to(engine.state.device, non_blocking=True)  # (B, 1, D, H, W)
        center = {"center": batch["center"]} if "center" in batch else {}  # (B, 3)
        with torch.no_grad():
            image, target = self.generator(labels, seed=self.seed, index=_first_index(engine, len(labels)), **center)
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
        return {**scalars, "loss": loss.detach(), "image": image, "label": target, "pred": pred.detach()}


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


def _first_index(engine: StepTrainer, batch_size: int) -> int:
    rank, world = rank_and_world()
    return ((engine.state.iteration - 1) * world + rank) * batch_size
