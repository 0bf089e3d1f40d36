"""Gram matrices, divergences, and the terms of the three stages."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from medsynth_ext.losses import gaussian_kl
from medsynth_ext.methods.ultrasound_style.losses import StyleTransferLoss, StyleVAELoss, gram_matrix


class TwoLayers(nn.Module):
    """The image itself, and its 2x2 means."""

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        return [image, nn.functional.avg_pool2d(image, 2)]


def test_gram_matrix_by_hand():
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])  # C 2, H 1, W 2
    assert torch.allclose(gram_matrix(features), torch.tensor([[[5.0, 11.0], [11.0, 25.0]]]) / 4)
    shuffled = features[..., torch.tensor([1, 0])]
    assert torch.equal(gram_matrix(features), gram_matrix(shuffled))  # blind to places


def test_divergence_is_the_integral():
    mean, deviation = 0.7, 0.4
    x = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    density = torch.exp(-0.5 * ((x - mean) / deviation) ** 2) / (deviation * math.sqrt(2 * math.pi))
    ratio = -0.5 * ((x - mean) / deviation) ** 2 - math.log(deviation) + 0.5 * x**2
    integral = float(torch.trapezoid(density * ratio, x))
    found = gaussian_kl(torch.tensor([[mean]]), torch.tensor([[deviation]]))
    assert found.item() == pytest.approx(integral, rel=1e-5)
    printed = gaussian_kl(torch.tensor([[mean]]), torch.tensor([[deviation]]), form="paper")
    assert printed.item() == pytest.approx(0.5 * (mean**2 / deviation**2 + deviation**2 - math.log(deviation**2) - 1))


def test_free_bits_are_free_for_each_entry():
    mean = torch.tensor([[2.0, 0.0]], requires_grad=True)
    value = gaussian_kl(mean, torch.ones(1, 2), free_bits=0.5)
    assert value.item() == pytest.approx((2.0 + 0.5) / 2)
    value.backward()
    assert mean.grad.tolist() == [[1.0, 0.0]]
    with pytest.raises(ValueError, match="form must be one of exact, paper"):
        gaussian_kl(mean, mean, form="other")


def test_terms_are_weighted_and_zero_for_equal_images():
    loss = StyleTransferLoss(TwoLayers(), content_weights=[0, 2.0], style_weights=[4.0, 0], kl_weight=0.5)
    image, other = torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8)
    same = loss(image, image, image)
    assert same == {"content": 0, "style": 0}
    codes = [torch.ones(2, 3, 1, 1)], [torch.ones(2, 3, 1, 1)]
    terms = loss(image, other, other, *codes)
    small, wanted = (nn.functional.avg_pool2d(x, 2) for x in (image, other))
    assert terms["content"].item() == pytest.approx(2 * (small - wanted).pow(2).mean().item(), rel=1e-5)
    grams = image.pow(2).mean((1, 2, 3)) - other.pow(2).mean((1, 2, 3))
    assert terms["style"].item() == pytest.approx(0.5 * 4 * grams.pow(2).mean().item(), rel=1e-4)
    assert terms["kl"].item() == pytest.approx(0.5 * 0.5)


def test_normalised_content_and_structure_do_not_see_brightness_and_contrast():
    options = {"content_weights": [1, 1], "style_weights": [0, 0], "structure_weight": 1.0, "structure_px": 2}
    loss = StyleTransferLoss(TwoLayers(), normalise_content=True, **options)
    image, other = torch.rand(2, 1, 16, 16), torch.rand(2, 1, 16, 16)
    brighter = loss(0.2 + 3 * image, image, other)
    assert brighter["content"] < 0.05
    assert brighter["structure"] < 0.15
    turned = loss(1 - image, image, other)
    assert turned["structure"] > 10 * brighter["structure"]
    assert loss(other, image, other)["structure"] > 5 * brighter["structure"]
    assert StyleTransferLoss(TwoLayers(), **options)(0.2 + 3 * image, image, other)["content"] > 0.5


def test_gradients_reach_the_output_and_not_the_images():
    loss = StyleTransferLoss(TwoLayers(), content_weights=[1, 1], style_weights=[1, 1])
    pred, content, style = (torch.rand(1, 1, 8, 8, requires_grad=True) for _ in range(3))
    sum(loss(pred, content, style).values()).backward()
    assert pred.grad.abs().sum() > 0
    assert content.grad is None
    assert style.grad is None


def test_a_wrong_number_of_weights_is_refused():
    loss = StyleTransferLoss(TwoLayers(), content_weights=[1], style_weights=[1, 1])
    with pytest.raises(ValueError, match="got 1 and 2 for 2 layers"):
        loss(*[torch.rand(1, 1, 8, 8)] * 3)


def test_the_loss_of_the_second_stage_adds_all_scales():
    image = torch.rand(1, 1, 4, 4)
    means, deviations = [torch.ones(1, 2), torch.zeros(1, 2)], [torch.ones(1, 2), torch.ones(1, 2)]
    terms = StyleVAELoss(kl_weight=2.0)(image + 0.1, image, means, deviations)
    assert terms["mse"].item() == pytest.approx(0.01, rel=1e-4)
    assert terms["kl"].item() == pytest.approx(2 * (0.5 + 0.0))
