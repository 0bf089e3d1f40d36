"""Adversarial losses, worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medsynth_ext.losses import FeatureDistance, feature_matching, hinge_discriminator, hinge_generator

REAL = [[torch.tensor([1.0, 2.0]), torch.tensor([2.0])], [torch.tensor([0.0]), torch.tensor([-1.0])]]
FAKE = [[torch.tensor([0.0, 4.0]), torch.tensor([-0.5])], [torch.tensor([3.0]), torch.tensor([1.0])]]


def test_hinge_by_hand() -> None:
    # Scale one: relu(1 - 2) + relu(1 - 0.5) = 0.5; scale two: relu(1 + 1) + relu(1 + 1) = 4.
    assert hinge_discriminator(REAL, FAKE).item() == pytest.approx(2.25)
    assert hinge_generator(FAKE).item() == pytest.approx(-0.25)


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
