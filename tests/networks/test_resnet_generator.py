"""The generator of unpaired translation."""

from __future__ import annotations

import pytest
import torch

from medsynth_ext.networks.resnet_generator import ResnetGenerator


def test_it_has_the_published_size() -> None:
    with torch.device("meta"):
        network = ResnetGenerator()
    assert sum(p.numel() for p in network.parameters()) == 11_378_179  # of the public 9-block generator
    strides = [m.stride[0] for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert strides.count(2) == 2
    assert len(strides) == 4 + 18


@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
@pytest.mark.parametrize(("dims", "shape"), [(2, (16, 24)), (3, (8, 8, 12))])
def test_images_keep_their_size_and_range(dims: int, shape: tuple[int, ...], upsampling: str) -> None:
    more = {"features": 2, "blocks": 1, "upsampling": upsampling}
    network = ResnetGenerator(spatial_dims=dims, in_channels=1, out_channels=2, **more)
    out = network(torch.randn(2, 1, *shape))
    assert out.shape == (2, 2, *shape)
    assert out.abs().max() <= 1


def test_first_weights_have_the_published_deviation() -> None:
    torch.manual_seed(0)
    weights = [m.weight for m in ResnetGenerator(features=16, blocks=2).modules() if isinstance(m, torch.nn.Conv2d)]
    assert all(w.std().item() == pytest.approx(0.02, rel=0.1) for w in weights)


def test_a_size_that_the_strides_do_not_divide_is_named() -> None:
    network = ResnetGenerator(features=2, blocks=1)
    with pytest.raises(ValueError, match=r"the sides of an image must be multiples of 4, got \(16, 18\)"):
        network(torch.zeros(1, 3, 16, 18))


def test_resizing_takes_the_place_of_the_transposed_convolutions() -> None:
    kinds = {name: {type(m) for m in ResnetGenerator(upsampling=name).modules()} for name in ("transposed", "resize")}
    assert torch.nn.ConvTranspose2d in kinds["transposed"]
    assert torch.nn.ConvTranspose2d not in kinds["resize"]
    with pytest.raises(ValueError, match="upsampling must be transposed or resize"):
        ResnetGenerator(upsampling="bilinear")
