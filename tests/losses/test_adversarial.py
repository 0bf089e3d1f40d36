"""Adversarial losses, worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from medsynth_ext.losses import (
    AdversarialLoss,
    FeatureDistance,
    decisions,
    feature_matching,
    hinge_discriminator,
    hinge_generator,
)

REAL = [[torch.tensor([1.0, 2.0]), torch.tensor([2.0])], [torch.tensor([0.0]), torch.tensor([-1.0])]]
FAKE = [[torch.tensor([0.0, 4.0]), torch.tensor([-0.5])], [torch.tensor([3.0]), torch.tensor([1.0])]]


def test_hinge_by_hand() -> None:
    # Scale one: relu(1 - 2) + relu(1 - 0.5) = 0.5; scale two: relu(1 + 1) + relu(1 + 1) = 4.
    assert hinge_discriminator(REAL, FAKE).item() == pytest.approx(2.25)
    assert hinge_generator(FAKE).item() == pytest.approx(-0.25)


@pytest.mark.parametrize(
    ("form", "for_real", "for_fake", "generator"),
    [
        ("vanilla", math.log(1 + math.exp(-2)), math.log(1 + math.exp(0.5)), math.log(1 + math.exp(-0.5))),
        ("least_squares", 1.0, 0.25, 0.25),
        ("hinge", 0.0, 1.5, -0.5),
    ],
)
def test_every_form_by_hand_with_logits_of_2_and_one_half(
    form: str, for_real: float, for_fake: float, generator: float
) -> None:
    loss = AdversarialLoss(form)
    real, fake = torch.tensor([2.0]), torch.tensor([0.5])
    assert loss(real, target_is_real=True, for_discriminator=True).item() == pytest.approx(for_real)
    assert loss(fake, target_is_real=False, for_discriminator=True).item() == pytest.approx(for_fake)
    assert loss.discriminator(real, fake).item() == pytest.approx(for_real + for_fake)
    assert loss.generator(fake).item() == pytest.approx(generator)


def test_decision_stages_and_scales_are_told_apart() -> None:
    one = torch.zeros(1)
    assert decisions(one) == [one]
    assert [d.item() for d in decisions([torch.ones(1), one])] == [0]
    assert [d.item() for d in decisions(REAL)] == [2, -1]


def test_the_vanilla_form_stays_finite_where_a_logistic_function_is_zero() -> None:
    logit = torch.tensor([-200.0], dtype=torch.bfloat16, requires_grad=True)
    loss = AdversarialLoss("vanilla").generator(logit)
    loss.backward()
    assert loss.item() == 200
    assert logit.grad is not None
    assert logit.grad.item() == -1


def test_unknown_forms_and_a_generator_that_wants_to_look_fake_are_refused() -> None:
    with pytest.raises(ValueError, match="form must be one of"):
        AdversarialLoss("wasserstein")
    with pytest.raises(ValueError, match="target must be real"):
        AdversarialLoss()(torch.zeros(1), target_is_real=False, for_discriminator=False)


def test_matching_leaves_the_decision_out_and_the_real_features_without_gradient() -> None:
    real = [[stage.clone().requires_grad_() for stage in scale] for scale in REAL]
    fake = [[stage.clone().requires_grad_() for stage in scale] for scale in FAKE]
    loss = feature_matching(real, fake)
    assert loss.item() == pytest.approx((1.5 + 3.0) / 2)
    loss.backward()
    assert real[0][0].grad is None
    assert fake[0][0].grad is not None
    assert fake[0][1].grad is None


class Twice(nn.Module):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [x, 2 * x]


def test_feature_distance_weights_its_layers() -> None:
    image = torch.tensor([1.0, 3.0], requires_grad=True)
    target = torch.zeros(2, requires_grad=True)
    loss = FeatureDistance(Twice(), weights=(0.5, 0.25))(image, target)
    assert loss.item() == pytest.approx(0.5 * 2 + 0.25 * 4)
    loss.backward()
    assert target.grad is None
    assert FeatureDistance(None)(image, target).item() == 0
    with pytest.raises(ValueError, match="got 1 for 2 layers"):
        FeatureDistance(Twice(), weights=(1.0,))(image, target)
