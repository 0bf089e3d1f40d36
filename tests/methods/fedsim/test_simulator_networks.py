"""The networks of the simulator: sizes of the paper, and the normalisation worked out by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from medsynth_ext.methods.fedsim.latent_networks import MaterialGenerator, ShapeGenerator
from medsynth_ext.methods.fedsim.spade import Spade, SpadeBlock, SpadeGenerator
from medsynth_ext.methods.fedsim.unet import HeartUNet


def count(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_networks_have_the_papers_numbers_of_parameters() -> None:
    assert count(ShapeGenerator()) == 44_053
    assert count(MaterialGenerator()) == pytest.approx(1.11e6, rel=0.01)
    with torch.device("meta"):
        assert count(SpadeGenerator()) == pytest.approx(92e6, rel=0.01)


def test_outputs_are_inside_minus_one_and_one() -> None:
    z = 5 * torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    shape, material = ShapeGenerator()(z), MaterialGenerator(norm="group")(z)
    assert shape.shape == (3, 21)
    assert material.shape == (3, 1, 16, 16, 16)
    assert shape.abs().max() <= 1
    assert material.abs().max() <= 1


def test_group_norm_has_no_buffers_and_no_memory_of_the_batch() -> None:
    network = MaterialGenerator(8, 8, features=(16, 8), norm="group")
    assert not list(network.buffers())
    z = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(network(z)[:1], network(z[:1]), atol=1e-6)


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_spade_by_hand(norm: str) -> None:
    """One channel of two pixels: x = (1, 3) has mean 2 and variance 1; hidden, gamma and beta are centre taps."""
    layer = Spade(1, 1, hidden=1, norm=norm)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.shared.weight[0, 0, 1, 1] = 2.0
        layer.gamma.weight[0, 0, 1, 1], layer.gamma.bias[0] = 0.5, 0.25
        layer.beta.weight[0, 0, 1, 1] = -1.0
    x, condition = torch.tensor([[[[1.0, 3.0]]]]), torch.tensor([[[[1.0, -4.0]]]])
    # Hidden is relu(2 c) = (2, 0), gamma (1.25, 0.25), beta (-2, 0); norm(x) is (-1, 1).
    want = torch.tensor([-1 * 2.25 - 2, 1 * 1.25 + 0])
    assert torch.allclose(layer(x, condition).flatten(), want, atol=1e-4)


def test_a_constant_channel_of_the_condition_changes_the_output() -> None:
    """What fails in MONAI's block, whose gamma and beta are normalised."""
    torch.manual_seed(0)
    block = SpadeBlock(4, 4, 1, hidden=8).eval()
    x = torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        low, high = (block(x, torch.full((1, 1, 8, 8), value)) for value in (0.2, 0.8))
    assert (low - high).abs().mean() > 0.02 * low.std()


def test_the_condition_is_brought_to_the_size_of_the_features_by_nearest_neighbours() -> None:
    torch.manual_seed(0)
    layer = Spade(2, 1, hidden=3)
    x, condition = torch.randn(1, 2, 4, 4), torch.randn(1, 1, 8, 8)
    assert torch.equal(layer(x, condition), layer(x, F.interpolate(condition, (4, 4), mode="nearest")))


def test_generator_of_small_slices_starts_from_one_pixel() -> None:
    network = SpadeGenerator(size=32, features=2, hidden=4)
    image = network(torch.randn(2, 3, 32, 32))
    assert image.shape == (2, 1, 32, 32)
    assert torch.isfinite(image).all()
    with pytest.raises(ValueError, match=r"condition must be \(B, 3, 32, 32\), got \(1, 3, 64, 64\)"):
        network(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match="multiple of 32, got 48"):
        SpadeGenerator(size=48)


def test_unet_keeps_odd_sizes_and_has_the_papers_width() -> None:
    network = HeartUNet(features=(2, 4, 8))
    assert network(torch.zeros(1, 1, 9, 12, 7)).shape == (1, 2, 9, 12, 7)
    with torch.device("meta"):
        assert count(HeartUNet(out_channels=3, norm="batch")) == pytest.approx(19.07e6, rel=0.01)  # Cicek et al.
    with pytest.raises(ValueError, match="norm must be"):
        HeartUNet(norm="layer")
