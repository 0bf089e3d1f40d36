"""The conditional adversarial step."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medsynth_ext.engines import AdversarialStep, StepTrainer, checked_update
from medsynth_ext.losses import ConditionalAdversarialLoss, FeatureDistance
from medsynth_ext.networks import MultiScaleDiscriminator, VGGFeatures


def make(learn: bool = True) -> AdversarialStep:
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))
    discriminator = MultiScaleDiscriminator(2, features=2, layers=3)
    loss = ConditionalAdversarialLoss(discriminator, FeatureDistance(VGGFeatures(width=1 / 32)))
    optimizers = [torch.optim.Adam(n.parameters(), lr=1e-2, betas=(0.0, 0.9)) for n in (generator, discriminator)]
    return AdversarialStep(
        generator, loss, optimizers[0], optimizers[1] if learn else None, prepare=lambda engine, batch: batch
    )


def sample() -> tuple[torch.Tensor, torch.Tensor]:
    condition = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    return condition, 1 - 2 * condition


def test_generated_images_come_closer_to_the_real_ones() -> None:
    step, (condition, real) = make(), sample()
    first = (step.generator(condition) - real).abs().mean()
    for _ in range(40):
        step.run(condition, real)
    assert (step.generator(condition) - real).abs().mean() < 0.6 * first


def test_without_its_optimiser_the_discriminator_stays() -> None:
    step = make(learn=False)
    before = {name: value.clone() for name, value in step.loss.discriminator.state_dict().items()}
    terms = step.run(*sample())
    assert "discriminator" not in terms
    assert all(torch.equal(value, before[name]) for name, value in step.loss.discriminator.state_dict().items())


def test_sides_do_not_get_each_others_gradients() -> None:
    step, (condition, real) = make(), sample()
    fake = step.generator(condition)
    torch.stack(list(step.loss.generator_terms(condition, real, fake).values())).sum().backward()
    assert all(p.grad is None for p in step.loss.discriminator.parameters())
    assert all(p.requires_grad for p in step.loss.discriminator.parameters())
    step.generator.zero_grad()
    step.loss.discriminator_term(condition, real, step.generator(condition)).backward()
    assert all(p.grad is None for p in step.generator.parameters())


def test_it_runs_in_a_trainer() -> None:
    trainer = StepTrainer("cpu", 1, [sample()] * 2, make(), decollate=False)
    trainer.run()
    assert {"loss", "adversarial", "matching", "features", "discriminator", "pred"} <= set(trainer.state.output)


def test_a_step_that_is_not_finite_changes_nothing() -> None:
    layer = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    before = layer.weight.detach().clone()
    with pytest.raises(FloatingPointError, match="the loss must be finite, got nan"):
        checked_update(layer(torch.full((1, 2), float("nan"))).sum(), optimizer)
    root = (layer(torch.zeros(1, 2)) - layer.bias).sum().sqrt()  # its derivative at 0 is infinite
    with pytest.raises(FloatingPointError, match="the gradient's norm must be finite"):
        checked_update(root, optimizer)
    assert torch.equal(layer.weight, before)
