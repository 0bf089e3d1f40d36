"""Backbones, bands and refinement: sizes, sums and weights are those of the paper."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medsynth_ext.methods.frequency_supervised import (
    BoundaryRefined,
    FCNet,
    FrequencySupervised,
    Regression,
    ResNet,
    UNet,
)
from medsynth_ext.methods.frequency_supervised.discriminator import EncoderDiscriminator
from medsynth_ext.methods.frequency_supervised.network import FactorisedRefinement, StackedRefinement


def size(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def convolution_weights(network: nn.Module) -> int:
    return sum(m.weight.numel() for m in network.modules() if isinstance(m, nn.Conv3d))


def backbones() -> dict[str, nn.Module]:
    return {
        "unet": UNet(features=(4, 8)),
        "fc": FCNet(features=(4, 6, 4), kernels=(5, 3, 3)),
        "res": ResNet(features=(4, 4, 4, 6, 8), repeat=1),
    }


@pytest.mark.parametrize("k", [3, 7, 13, 19])
def test_factorised_weights_are_nine_c_squared_k(k: int) -> None:
    assert convolution_weights(FactorisedRefinement(8, k)) == 9 * 8**2 * k


@pytest.mark.parametrize(("kernel", "layers", "thousands"), [(3, 3, 82.9), (3, 6, 165.9), (3, 9, 248.8), (5, 3, 384.0)])
def test_stacked_weights_are_those_of_the_papers_table(kernel: int, layers: int, thousands: float) -> None:
    assert round(convolution_weights(StackedRefinement(32, kernel, layers)) / 1000, 1) == thousands


def test_the_papers_network_has_the_papers_size() -> None:
    backbone = UNet()
    whole = FrequencySupervised(backbone, channels=32, k=13)
    assert round(size(backbone) / 1e6, 2) == 11.35
    assert round((size(whole) - size(backbone)) / 1000) == 124
    assert convolution_weights(whole.refine) == 119_808


@pytest.mark.parametrize("name", ["unet", "fc", "res"])
def test_every_backbone_gets_two_bands_that_add_up(name: str) -> None:
    backbone = backbones()[name]
    network = FrequencySupervised(backbone, channels=backbone.out_channels, k=5)
    output = network(torch.randn(2, 1, 8, 12, 16))
    assert output.shape == (2, 4, 8, 12, 16)
    assert torch.allclose(output[:, 0], output[:, 1] + output[:, 2], atol=1e-5)
    assert ((output[:, 3] >= 0) & (output[:, 3] <= 1)).all()
    assert output[:, 2].min() < 0 < output[:, 2].max()
    output[:, :1].sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    for head in (Regression, BoundaryRefined):
        assert head(backbones()[name], channels=backbone.out_channels)(torch.randn(1, 1, 8, 8, 8)).shape == (
            1,
            1,
            8,
            8,
            8,
        )


def test_the_refinement_sees_its_kernel_along_every_axis() -> None:
    refinement = FactorisedRefinement(1, 7)
    for module in refinement.modules():  # without norms, the reach is that of the convolutions
        if hasattr(module, "adn"):
            module.adn = nn.Identity()
        if isinstance(module, nn.Conv3d):
            nn.init.constant_(module.weight, 1.0)
            nn.init.zeros_(module.bias)
    pulse = torch.zeros(1, 1, 15, 15, 15)
    pulse[0, 0, 7, 7, 7] = 1
    seen = refinement(pulse)[0, 0]
    assert torch.equal(seen, 3 * torch.nn.functional.pad(torch.ones(7, 7, 7), (4,) * 6))


def test_squash_bounds_the_ct_and_not_the_high_band() -> None:
    network = FrequencySupervised(UNet(features=(4, 8)), channels=4, k=3, squash=True)
    nn.init.constant_(network.high_head.bias, 5.0)
    output = network(torch.randn(1, 1, 8, 8, 8))
    assert output[:, 0].abs().max() <= 1
    assert output[:, 2].max() > 1
    assert torch.allclose(output[:, 0], torch.tanh(output[:, 1] + output[:, 2]), atol=1e-6)


def test_the_judge_gives_one_logit_whatever_the_size() -> None:
    judge = EncoderDiscriminator(2, features=(4, 8))
    assert judge(torch.randn(3, 2, 8, 10, 12)).shape == (3, 1)


def test_wrong_settings_and_sizes_are_named() -> None:
    with pytest.raises(ValueError, match=r"multiples of 2, got \[9, 8, 8\]"):
        UNet(features=(4, 8))(torch.zeros(1, 1, 9, 8, 8))
    with pytest.raises(ValueError, match="k" + "ernel must be odd, got 4"):
        FrequencySupervised(UNet(features=(4, 8)), channels=4, k=4)
    with pytest.raises(ValueError, match="refinement must be factorised or stacked, got 'dense'"):
        FrequencySupervised(UNet(features=(4, 8)), channels=4, refinement="dense")
    with pytest.raises(ValueError, match="pooling must be max or average"):
        UNet(pooling="stride")
    with pytest.raises(ValueError, match="at least two levels"):
        UNet(features=(4,))
