"""The relativistic average losses on hand-worked logits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from medsynth_ext.losses.relativistic import relativistic_discriminator, relativistic_generator


def test_losses_are_the_papers() -> None:
    real, fake = torch.tensor([[2.0], [0.0]]), torch.tensor([[-1.0], [0.5]])
    r, f = real - fake.mean(), fake - real.mean()
    one, zero = torch.ones_like(r), torch.zeros_like(r)
    bce = F.binary_cross_entropy_with_logits
    assert relativistic_discriminator(real, fake).item() == pytest.approx((bce(r, one) + bce(f, zero)).item() / 2)
    assert relativistic_generator(real, fake).item() == pytest.approx((bce(r, zero) + bce(f, one)).item() / 2)


def test_the_sides_change_places_with_the_images() -> None:
    real, fake = torch.randn(4, 1), torch.randn(4, 1)
    assert torch.allclose(relativistic_generator(real, fake), relativistic_discriminator(fake, real))


def test_only_the_difference_of_the_logits_counts() -> None:
    real, fake = torch.randn(3, 1, 2, 2), torch.randn(3, 1, 2, 2)
    assert torch.allclose(
        relativistic_discriminator(real, fake), relativistic_discriminator(real + 5, fake + 5), atol=1e-5
    )


def test_huge_logits_stay_finite_and_the_generator_learns_from_both_terms() -> None:
    real = torch.full((2, 1), 1e4)
    fake = torch.full((2, 1), -1e4, requires_grad=True)
    loss = relativistic_generator(real, fake)
    loss.backward()
    assert loss.item() == pytest.approx(2e4)
    assert torch.allclose(fake.grad, torch.full((2, 1), -0.5))


def test_logits_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one shape, got \(2, 1\) and \(1, 1\)"):
        relativistic_discriminator(torch.zeros(2, 1), torch.zeros(1, 1))
