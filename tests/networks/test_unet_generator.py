"""The U-Net generator: published size, skips, dropout, sizes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medsynth_ext.networks import UNetGenerator


def test_it_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        network = UNetGenerator(in_channels=3, out_channels=3, num_downs=8)
    # unet_256 of the public code has 54.4 million parameters with batch norm; instance norm has none, but biases.
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(54.41e6, rel=0.001)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_it_keeps_the_size_and_the_range(spatial_dims: int) -> None:
    network = UNetGenerator(spatial_dims=spatial_dims, features=2, num_downs=4)
    image = 100 * torch.randn(1, 1, *[16] * spatial_dims)
    assert network(image).shape == image.shape
    assert network(image).abs().max() <= 1


def test_dropout_acts_in_training_only_and_at_the_inner_levels() -> None:
    torch.manual_seed(0)
    network = UNetGenerator(features=4, num_downs=6)
    assert sum(isinstance(m, nn.Dropout) for m in network.modules()) == 1  # 9 levels have 4
    with torch.device("meta"):
        published = UNetGenerator()
    assert sum(isinstance(m, nn.Dropout) for m in published.modules()) == 4
    image = torch.randn(1, 1, 64, 64)
    assert not torch.equal(network(image), network(image))
    network.eval()
    assert torch.equal(network(image), network(image))


def test_detail_passes_through_the_skips_and_the_bottom_sees_the_whole_image() -> None:
    torch.manual_seed(0)
    network = UNetGenerator(features=4, num_downs=5, dropout=0.0).eval()
    image = torch.randn(1, 1, 32, 32, requires_grad=True)
    network(image)[0, 0, 0, 0].backward()
    assert image.grad is not None
    assert (image.grad != 0).all()


def test_it_can_be_scripted() -> None:
    network = UNetGenerator(features=2, num_downs=5).eval()
    image = torch.randn(1, 1, 32, 32)
    assert torch.equal(torch.jit.script(network)(image), network(image))


def test_a_size_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"multiples of 32, got \[48, 32\]"):
        UNetGenerator(features=2, num_downs=5)(torch.zeros(1, 1, 48, 32))
    with pytest.raises(ValueError, match="num_downs must be at least 2"):
        UNetGenerator(num_downs=1)
