"""The high-resolution backbone."""

from __future__ import annotations

import pytest
import torch

from medsynth_ext.networks import HRNet

SMALL = {"width": 2, "stem_channels": 4, "modules": (1, 1, 1), "blocks": (1, 1, 1, 1)}


def count(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_default_network_is_hrnetv2_w18() -> None:
    with torch.device("meta"):
        network = HRNet()
        other = HRNet(width=32)
        features = network(torch.empty(1, 3, 64, 96))
    # Stem, stages and fusions of the public hrnet_w18 and hrnet_w32 without their classifiers; equal outputs with equal
    # weights were checked against timm 1.0.31.
    assert count(network) == 9_562_260
    assert count(other) == 29_305_536
    assert features.shape == (1, 270, 16, 24)
    assert network.out_channels == 18 * (1 + 2 + 4 + 8)


def test_branches_have_strides_4_to_32_and_the_output_holds_all_of_them() -> None:
    torch.manual_seed(0)
    network = HRNet(1, **SMALL).eval()
    image = torch.randn(2, 1, 64, 32)
    branches = network.branches(image)
    assert [tuple(b.shape) for b in branches] == [(2, 2, 16, 8), (2, 4, 8, 4), (2, 8, 4, 2), (2, 16, 2, 1)]
    features = network(image)
    assert features.shape == (2, network.out_channels, 16, 8)
    assert torch.equal(features[:, :2], branches[0])
    coarse = features[:, 14:]
    assert torch.allclose(coarse[..., 0, :], branches[3][..., 0, :].expand(-1, -1, 8))  # held at the border


def test_every_branch_gets_something_from_every_other_and_all_weights_a_gradient() -> None:
    torch.manual_seed(0)
    network = HRNet(1, **SMALL)
    fusions = network.stages[-1].exchanges[-1].fusions
    inputs = [torch.randn(2, 2 * 2**i, 8 // 2**i, 8 // 2**i, requires_grad=True) for i in range(4)]
    for i, fusion in enumerate(fusions):
        mixed = fusion(inputs)
        assert mixed.shape == inputs[i].shape
        grads = torch.autograd.grad(mixed.sum(), inputs)
        assert all(g.abs().sum() > 0 for g in grads)
    network(torch.randn(2, 1, 64, 64)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_scripted_network_gives_the_same_features() -> None:
    torch.manual_seed(0)
    network = HRNet(3, **SMALL).eval()
    image = torch.randn(1, 3, 32, 64)
    assert torch.equal(torch.jit.script(network)(image), network(image))


@pytest.mark.parametrize("size", [(60, 64), (64, 33), (16, 64), (0, 32)])
def test_images_that_the_strides_do_not_divide_are_refused(size: tuple[int, int]) -> None:
    network = HRNet(3, **SMALL).eval()
    with pytest.raises(ValueError, match=f"multiples of 32, got {size[0]} x {size[1]}"):
        network(torch.zeros(1, 3, *size))


def test_other_stages_are_refused() -> None:
    with pytest.raises(ValueError, match="modules must be 3 and blocks 4"):
        HRNet(modules=(1, 1))
    with pytest.raises(ValueError, match="width and stem_channels must be positive"):
        HRNet(width=0)
