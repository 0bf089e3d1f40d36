from __future__ import annotations

import pytest
import torch
from torch import nn

from medsynth_ext.methods.synthseg import SynthSegUNet


@pytest.mark.parametrize(("dims", "size"), [(2, (8, 12)), (3, (8, 4, 12))])
def test_output_has_the_size_of_the_input(dims, size):
    network = SynthSegUNet(2, 5, features=(3, 4, 5), spatial_dims=dims)
    assert network(torch.rand(2, 2, *size)).shape == (2, 5, *size)


def test_paper_network_has_13_million_parameters():
    network = SynthSegUNet(1, 32)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(13.24e6, rel=0.005)


def test_levels_uses_the_first_features():
    network = SynthSegUNet(1, 2, features=(3, 4, 5), levels=2)
    assert network.divisor == 2
    assert [level.conv1.out_channels for level in network.down] == [3, 4]


def test_skip_is_taken_before_the_norm():
    network = SynthSegUNet(1, 2, features=(3, 4)).eval()
    image = torch.rand(1, 1, 4, 4, 4)
    wanted = network.down[0](image)[1]
    seen = []
    network.up[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        nn.init.constant_(network.down[0].norm.weight, 7.0)
        network(image)
        assert torch.equal(seen[0][:, :3], wanted)
        assert not torch.allclose(network.down[0](image)[0], wanted)


def test_size_that_is_no_multiple_is_refused():
    with pytest.raises(ValueError, match=r"multiples of 4, got \[8, 8, 6\]"):
        SynthSegUNet(1, 2, features=(3, 4, 5))(torch.rand(1, 1, 8, 8, 6))


@pytest.mark.parametrize("options", [{"levels": 0}, {"levels": 4}, {"spatial_dims": 1}, {"norm": "group"}])
def test_wrong_options_are_refused(options):
    with pytest.raises(ValueError, match="must be"):
        SynthSegUNet(1, 2, features=(3, 4, 5), **options)


@pytest.mark.parametrize(("dims", "size"), [(2, (8, 12)), (3, (4, 6, 8))])
def test_norms_are_the_same_when_single_images_are_trained_on(dims, size):
    batch = SynthSegUNet(1, 2, features=(3, 4), spatial_dims=dims)
    instance = SynthSegUNet(1, 2, features=(3, 4), norm="instance", spatial_dims=dims)
    instance.load_state_dict(batch.state_dict(), strict=False)
    image = torch.rand(1, 1, *size)
    for network in (batch, instance):
        network(image).square().sum().backward()
    for name, parameter in instance.named_parameters():
        torch.testing.assert_close(parameter.grad, batch.get_parameter(name).grad, rtol=1e-4, atol=1e-4)


def test_gradients_in_bfloat16_are_close_to_those_in_float32():
    network = SynthSegUNet(1, 4, features=(4, 8), norm="instance").to(memory_format=torch.channels_last_3d)
    image = torch.rand(1, 1, 16, 16, 16)
    weight = torch.rand(1, 4, 16, 16, 16)
    gradients = []
    for enabled in (False, True):
        network.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            logits = network(image)
        (logits.float() * weight).mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
    assert (gradients[1] - gradients[0]).norm() < 0.1 * gradients[0].norm()


def test_instance_norm_treats_every_image_alone():
    network = SynthSegUNet(1, 2, features=(3, 4), norm="instance").eval()
    images = torch.rand(2, 1, 4, 6, 8) * torch.tensor([1.0, 9.0])[:, None, None, None, None]
    torch.testing.assert_close(network(images), torch.cat([network(image[None]) for image in images]))


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_scripted_network_gives_the_same(norm):
    network = SynthSegUNet(1, 2, features=(3, 4), norm=norm).eval()
    image = torch.rand(1, 1, 4, 6, 8)
    assert torch.equal(torch.jit.script(network)(image), network(image))


def test_state_dict_names_are_those_of_the_shipped_weights():
    names = set(SynthSegUNet(1, 2, features=(3, 4), norm="instance").state_dict())
    level = [f"{part}.{p}" for part in ("conv1", "conv2", "norm") for p in ("weight", "bias")]
    blocks = [f"{block}.{p}" for block in ("down.0", "down.1", "up.0") for p in level]
    assert names == {*blocks, "head.weight", "head.bias"}
