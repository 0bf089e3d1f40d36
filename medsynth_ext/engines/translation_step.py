"""Adversarial training of one generator against any number of discriminators, on paired or unpaired images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from medsynth_ext.engines.cycle_step import frozen
from medsynth_ext.engines.trainer import StepTrainer

__all__ = ["TranslationObjective", "TranslationStep"]

Images = dict[str, Tensor]


class TranslationObjective(Protocol):
    """What generator and discriminators minimise; :class:`TranslationStep` calls the three methods in this order."""

    def generate(self, images: Images, iteration: int) -> Images:
        """Run the generator.

        Args:
            images: what ``prepare`` made of the batch, on the device.
            iteration: number of the update from 1; random choices are a function of it, so that a training that goes
                on from a checkpoint makes the same.

        Returns:
            The images with everything the terms need, among it ``image`` and its translation ``pred``.
        """

    def discriminator_terms(self, images: Images) -> dict[str, Tensor]:
        """Loss of every discriminator that shall be updated, by its name; none where the generator learns alone."""

    def generator_terms(self, images: Images) -> dict[str, Tensor]:
        """Weighted terms of the generator, which minimises their sum."""


class TranslationStep:
    """One update of the discriminators that the objective names, then one of the generator.

    The generator runs once. No gradient of the discriminators' terms reaches it, and none of its own terms reaches the
    discriminators' parameters. The output has every term (a discriminator's as ``discriminator_<name>``), ``loss`` of
    the generator, and every tensor of the objective's images with a batch axis.

    Args:
        generator: the network that translates.
        objective: both sides' terms; holds what it needs of the networks.
        generator_optimizer: updates the generator (and what else learns with it).
        discriminators: by name, may be empty.
        discriminator_optimizers: one for each discriminator.
        prepare: ``prepare(engine, batch)`` gives the images on the device by name.
        more: further things with a state that the training changes, for the checkpoint.

    Raises:
        ValueError: when discriminators and optimisers have different names.
    """

    def __init__(
        self,
        generator: nn.Module,
        objective: TranslationObjective,
        generator_optimizer: torch.optim.Optimizer,
        discriminators: Mapping[str, nn.Module],
        discriminator_optimizers: Mapping[str, torch.optim.Optimizer],
        *,
        prepare: Callable[[StepTrainer, Any], Images],
        more: Mapping[str, Any] | None = None,
    ) -> None:
        if set(discriminators) != set(discriminator_optimizers):
            raise ValueError(
                f"every discriminator needs an optimiser of its name: {sorted(discriminators)} are the discriminators, "
                f"{sorted(discriminator_optimizers)} the optimisers"
            )
        self.generator = generator
        self.objective = objective
        self.generator_optimizer = generator_optimizer
        self.discriminators = dict(discriminators)
        self.discriminator_optimizers = dict(discriminator_optimizers)
        self.prepare = prepare
        self.more = dict(more or {})

    def checkpoint_objects(self) -> dict[str, Any]:
        """Everything that the training changes, by name, for :class:`medsynth_ext.handlers.Checkpoint`."""
        named = {"generator": self.generator, "generator_optimizer": self.generator_optimizer, **self.more}
        for name, network in self.discriminators.items():
            named[f"discriminator_{name}"] = network
            named[f"discriminator_{name}_optimizer"] = self.discriminator_optimizers[name]
        return named

    def __call__(self, engine: StepTrainer, batch: Any) -> dict[str, Any]:
        self.generator.train()
        for network in self.discriminators.values():
            network.train()
        with engine.autocast():
            images = self.objective.generate(self.prepare(engine, batch), engine.state.iteration)
            judged = self.objective.discriminator_terms(images)
        for name, term in judged.items():
            engine.update(term.float(), self.discriminator_optimizers[name])
        with frozen(*self.discriminators.values()), engine.autocast():
            terms = self.objective.generator_terms(images)
        loss = torch.stack([term.float() for term in terms.values()]).sum()
        engine.update(loss, self.generator_optimizer)
        scalars = {**terms, **{f"discriminator_{name}": term for name, term in judged.items()}}
        pictures = {name: image.detach() for name, image in images.items() if image.ndim}
        return {**{name: term.detach() for name, term in scalars.items()}, "loss": loss.detach(), **pictures}
