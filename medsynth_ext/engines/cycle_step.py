"""Unpaired translation between two domains with cycle consistency (Zhu et al., ICCV 2017)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsynth_ext.engines.image_pool import ImagePool
from medsynth_ext.engines.trainer import StepTrainer
from medsynth_ext.losses.adversarial import decisions

__all__ = ["CycleStep", "frozen"]


@contextmanager
def frozen(*networks: nn.Module) -> Iterator[None]:
    """No gradients to the parameters of these networks inside the block; through them, yes.

    >>> layer = nn.Linear(1, 1)
    >>> with frozen(layer):
    ...     any(p.requires_grad for p in layer.parameters())
    False
    """
    learning = [p for network in networks for p in network.parameters() if p.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


class CycleStep:
    """One update of two generators and one of two discriminators, on images of two domains that show different things.

    The generators minimise, for a to b and b to a alike,
    ``adversarial + cycle_weight * |G_ba(G_ab(a)) - a| + identity_weight * |G_ab(b) - b|``; a discriminator half the sum
    of its losses on real images and on generated ones from its pool.

    The output has every term, ``loss`` of the generators, and the images: ``image`` of a and its translation ``pred``,
    ``image_b`` and its translation ``pred_a``. Networks, optimisers and pools belong into the checkpoint:
    :meth:`checkpoint_objects` names them all. With several processes the pools are those of the whole batch, see
    :class:`medsynth_ext.engines.ImagePool`.

    Args:
        generators: from a to b, and from b to a; they keep the size and the range of the images.
        discriminators: of a, and of b; they give their decision, or all stages with the decision last.
        generator_optimizer: updates both generators.
        discriminator_optimizer: updates both discriminators.
        adversarial: ``adversarial(decisions, target_is_real, for_discriminator)``, such as MONAI's
            ``PatchAdversarialLoss``, which wants ``no_activation_leastsq=True`` to be the plain least squares.
        prepare: ``prepare(engine, batch) -> a, b``, both (B, C, *S) on the device.
        cycle_weight: of the cycle.
        identity_weight: of the identity; with 0 the generators are not called for it.
        pool_size: images that each pool keeps.
        seed: of the pools' draws.

    Raises:
        ValueError: for other than two generators and two discriminators.
    """

    def __init__(
        self,
        generators: Sequence[nn.Module],
        discriminators: Sequence[nn.Module],
        generator_optimizer: torch.optim.Optimizer,
        discriminator_optimizer: torch.optim.Optimizer,
        *,
        adversarial: Callable[..., Tensor],
        prepare: Callable[[StepTrainer, Any], tuple[Tensor, Tensor]],
        cycle_weight: float = 10.0,
        identity_weight: float = 5.0,
        pool_size: int = 50,
        seed: int = 0,
    ) -> None:
        if len(generators) != 2 or len(discriminators) != 2:
            raise ValueError(
                f"wanted 2 generators and 2 discriminators, got {len(generators)} and {len(discriminators)}"
            )
        self.a_to_b, self.b_to_a = generators
        self.judge_a, self.judge_b = discriminators
        self.generator_optimizer = generator_optimizer
        self.discriminator_optimizer = discriminator_optimizer
        self.adversarial = adversarial
        self.prepare = prepare
        self.cycle_weight = cycle_weight
        self.identity_weight = identity_weight
        self.pools = (ImagePool(pool_size, seed=2 * seed), ImagePool(pool_size, seed=2 * seed + 1))

    def checkpoint_objects(self) -> dict[str, Any]:
        """Everything that the training changes, by name, for :class:`medsynth_ext.handlers.Checkpoint`."""
        return {
            "generator_a_to_b": self.a_to_b,
            "generator_b_to_a": self.b_to_a,
            "discriminator_a": self.judge_a,
            "discriminator_b": self.judge_b,
            "generator_optimizer": self.generator_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
            "pool_a": self.pools[0],
            "pool_b": self.pools[1],
        }

    def __call__(self, engine: StepTrainer, batch: Any) -> dict[str, Any]:
        a, b = self.prepare(engine, batch)
        for network in (self.a_to_b, self.b_to_a, self.judge_a, self.judge_b):
            network.train()
        with frozen(self.judge_a, self.judge_b), engine.autocast():
            terms, fakes = self._generator_terms(a, b)
        loss = torch.stack([term.float() for term in terms.values()]).sum()
        engine.update(loss, self.generator_optimizer)
        with engine.autocast():
            pooled = [pool(fake.float()) for pool, fake in zip(self.pools, fakes, strict=True)]
            terms["discriminator_a"] = self._judged(self.judge_a, a, pooled[0])
            terms["discriminator_b"] = self._judged(self.judge_b, b, pooled[1])
        judged = (terms["discriminator_a"] + terms["discriminator_b"]).float()
        engine.update(judged, self.discriminator_optimizer)
        scalars = {name: term.detach() for name, term in terms.items()}
        pictures = {"image": a, "pred": fakes[1].detach(), "image_b": b, "pred_a": fakes[0].detach()}
        return {**scalars, "loss": loss.detach(), **pictures}

    def _generator_terms(self, a: Tensor, b: Tensor) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor]]:
        fake_b, fake_a = self.a_to_b(a), self.b_to_a(b)
        terms = {
            "adversarial_a": self._judge(self.judge_a, fake_a, real=True, learning=False),
            "adversarial_b": self._judge(self.judge_b, fake_b, real=True, learning=False),
            "cycle_a": self.cycle_weight * F.l1_loss(self.b_to_a(fake_b).float(), a),
            "cycle_b": self.cycle_weight * F.l1_loss(self.a_to_b(fake_a).float(), b),
        }
        if self.identity_weight > 0:
            terms["identity_a"] = self.identity_weight * F.l1_loss(self.b_to_a(a).float(), a)
            terms["identity_b"] = self.identity_weight * F.l1_loss(self.a_to_b(b).float(), b)
        return terms, (fake_a, fake_b)

    def _judge(self, network: nn.Module, image: Tensor, *, real: bool, learning: bool) -> Tensor:
        found = [d.float() for d in decisions(network(image))]
        return self.adversarial(found, target_is_real=real, for_discriminator=learning)

    def _judged(self, network: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        on_real, on_fake = (
            self._judge(network, image, real=is_real, learning=True) for image, is_real in ((real, True), (fake, False))
        )
        return 0.5 * (on_real + on_fake)
