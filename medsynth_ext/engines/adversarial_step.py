"""Conditional adversarial training: one generator step, then one discriminator step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from medsynth_ext.engines.trainer import StepTrainer
from medsynth_ext.losses import ConditionalAdversarialLoss

__all__ = ["AdversarialStep", "checked_update"]

Update = Callable[[Tensor, torch.optim.Optimizer], None]


def checked_update(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Back-propagate and step, as ``StepTrainer.update`` does, for code that runs without a trainer.

    Raises:
        FloatingPointError: when the loss or its gradient is not finite; nothing is changed then.
    """
    if not torch.isfinite(loss):
        raise FloatingPointError(f"the loss must be finite, got {loss.item()}; lower the learning rate")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(parameters, float("inf"))
    if not torch.isfinite(norm):
        raise FloatingPointError(f"the gradient's norm must be finite, got {norm.item()}")
    optimizer.step()


class AdversarialStep:
    """One update of a conditional generator and one of its discriminator.

    The generator is called once; the discriminator's step sees the same image.

    Args:
        generator: maps the condition to an image.
        loss: both sides' losses; holds the discriminator.
        generator_optimizer: updates the generator, and whatever else made the condition.
        discriminator_optimizer: updates the discriminator; ``None`` leaves it as it is, without its power iterations.
        prepare: from a batch to condition and real image, both on the device; for use with a trainer.
    """

    def __init__(
        self,
        generator: nn.Module,
        loss: ConditionalAdversarialLoss,
        generator_optimizer: torch.optim.Optimizer,
        discriminator_optimizer: torch.optim.Optimizer | None,
        *,
        prepare: Callable[[StepTrainer, Any], tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        self.generator = generator
        self.loss = loss
        self.generator_optimizer = generator_optimizer
        self.discriminator_optimizer = discriminator_optimizer
        self.prepare = prepare

    def run(self, condition: Tensor, real: Tensor, *, update: Update = checked_update) -> dict[str, Tensor]:
        """Both updates; returns the detached terms, their sum for the generator as ``loss``, and ``pred``."""
        self.generator.train()
        self.loss.discriminator.train(self.discriminator_optimizer is not None)
        fake = self.generator(condition)
        terms = self.loss.generator_terms(condition, real, fake)
        loss = torch.stack(list(terms.values())).sum()
        update(loss, self.generator_optimizer)
        if self.discriminator_optimizer is not None:
            terms["discriminator"] = self.loss.discriminator_term(condition.detach(), real, fake)
            update(terms["discriminator"], self.discriminator_optimizer)
        return {**{name: term.detach() for name, term in terms.items()}, "loss": loss.detach(), "pred": fake.detach()}

    def __call__(self, engine: StepTrainer, batch: Any) -> dict[str, Any]:
        if self.prepare is None:
            raise ValueError("AdversarialStep needs prepare to be used with a trainer")
        condition, real = self.prepare(engine, batch)
        return {**self.run(condition, real, update=engine.update), "image": condition, "label": real}
