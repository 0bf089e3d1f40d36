"""Encoders, decoder and the transfer: what carries style, what carries content."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medsynth_ext.methods.ultrasound_style import ContentUNet, StyleTransferNetwork, StyleVAE
from medsynth_ext.methods.ultrasound_style.decoder import Decoder
from medsynth_ext.methods.ultrasound_style.encoders import StyleEncoder
from medsynth_ext.networks import adain, channel_statistics, draw_codes

FEATURES = (4, 6, 8, 8, 8)


def network(**options) -> StyleTransferNetwork:
    torch.manual_seed(0)
    return StyleTransferNetwork(1, FEATURES, **options).eval()


def test_the_published_network_has_the_published_widths():
    with torch.device("meta"):
        whole = StyleTransferNetwork(latent="spatial")
    widths = [block.layers[0].out_channels for block in whole.content_encoder.blocks]
    assert widths == [64, 128, 256, 512, 1024]
    means, deviations = whole.style_encoder(torch.empty(1, 1, 256, 256, device="meta"))
    assert [tuple(m.shape[1:]) for m in means] == [(64 * 2**i, 256 >> i, 256 >> i) for i in range(5)]
    assert [d.shape for d in deviations] == [m.shape for m in means]
    assert all(up.kernel_size == (2, 2) for up in whole.decoder.ups)


def test_adain_gives_the_wanted_statistics_by_hand():
    x = torch.tensor([[[[0.0, 2.0], [4.0, 6.0]]]])
    mean, deviation = channel_statistics(x)
    assert mean.item() == 3
    assert deviation.item() == pytest.approx(5**0.5)
    made = adain(x, torch.tensor([[10.0]]), torch.tensor([[2.0]]))
    assert torch.allclose(made, 10 + (x - 3) * (2 + 1e-5) / (5**0.5 + 1e-5))
    assert torch.allclose(adain(x, mean, deviation), x, atol=1e-5)


def test_adain_of_a_constant_channel_has_a_gradient():
    x = torch.ones(1, 1, 4, 4, requires_grad=True)
    adain(x, torch.zeros(1, 1), torch.ones(1, 1)).sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("latent", ["vector", "spatial"])
@pytest.mark.parametrize("place", ["decoder", "skip"])
def test_images_of_several_sizes_and_styles_of_others(latent, place):
    net = network(latent=latent, adain_on=place)
    out = net(torch.rand(2, 1, 32, 48), torch.rand(2, 1, 48, 32))
    assert out.shape == (2, 1, 32, 48)
    assert 0 <= out.min() <= out.max() <= 1


@pytest.mark.parametrize("place", ["decoder", "skip"])
def test_a_frame_of_one_grey_gets_no_rim_in_any_style(place):
    styles = torch.rand(3, 1, 32, 32) * torch.tensor([0.3, 0.6, 1.0]).view(3, 1, 1, 1)
    made = network(adain_on=place)(torch.full((3, 1, 32, 32), 0.7), styles)
    inside = made[:, :, 12:20, 12:20].mean((2, 3), keepdim=True)
    assert torch.allclose(made, inside.expand_as(made), atol=1e-3)


@pytest.mark.parametrize("place", ["decoder", "skip"])
def test_style_reaches_the_output_through_statistics_alone(place):
    decoder = Decoder(1, (4, 8), adain_on=place).eval()
    content = [torch.rand(1, 4, 16, 16), torch.rand(1, 8, 8, 8)]
    plain = [torch.zeros(1, 4), torch.zeros(1, 8)], [torch.ones(1, 4), torch.ones(1, 8)]
    wide = [torch.zeros(1, 4), torch.zeros(1, 8)], [3 * torch.ones(1, 4), torch.ones(1, 8)]
    assert not torch.allclose(decoder(content, *plain), decoder(content, *wide))
    if place == "decoder":  # the last thing that happens to a feature: its mean and deviation are the style's
        seen = []
        decoder.out.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        decoder(content, *wide)
        mean, deviation = channel_statistics(seen[0])
        assert torch.allclose(mean, torch.zeros(1, 4), atol=1e-4)
        assert torch.allclose(deviation, torch.full((1, 4), 3.0), rtol=1e-3)


def test_a_plain_decoder_ignores_style():
    decoder = Decoder(1, (4, 8), adain_on="none").eval()
    content = [torch.rand(1, 4, 16, 16), torch.rand(1, 8, 8, 8)]
    empty: list[torch.Tensor] = []
    assert decoder(content, empty, empty).shape == (1, 1, 16, 16)


def test_codes_are_bounded_means_and_positive_deviations():
    means, deviations = StyleEncoder(1, FEATURES)(100 * torch.randn(3, 1, 32, 32))
    assert [tuple(m.shape) for m in means] == [(3, w, 1, 1) for w in FEATURES]
    assert all(m.abs().max() <= 1 for m in means)
    assert all(d.min() >= 0 and d.max() <= 1 for d in deviations)


def test_independent_spatial_noise_averages_out_where_vectors_do_not():
    """Why vectors are the default for drawing styles."""
    torch.manual_seed(0)
    like = [torch.zeros(1, 8, 64, 64)]
    spatial = StyleEncoder(1, (8,), latent="spatial").eval()
    many = torch.stack([spatial.features([torch.randn(1, 8, 64, 64)], like)[1][0] for _ in range(8)])
    one = torch.stack([spatial.features([torch.randn(1, 8, 1, 1)], like)[1][0] for _ in range(8)])
    assert many.std(0).mean() < 0.1 * one.std(0).mean()


def test_vectors_of_codes_come_apart_and_together():
    net = network()
    vectors = torch.randn(3, sum(FEATURES))
    codes = net.split(vectors)
    assert [tuple(c.shape) for c in codes] == [(3, w, 1, 1) for w in FEATURES]
    assert torch.equal(net.join(codes), vectors)


def test_drawn_codes_depend_on_seed_and_number_alone():
    means, deviations = (
        [torch.zeros(4, 3, 2, 2), torch.zeros(4, 5, 1, 1)],
        [torch.ones(4, 3, 2, 2), torch.ones(4, 5, 1, 1)],
    )
    whole = draw_codes(means, deviations, seed=7, first=10)
    part = draw_codes([m[2:] for m in means], [d[2:] for d in deviations], seed=7, first=12)
    assert all(torch.equal(a[2:], b) for a, b in zip(whole, part, strict=True))
    half = draw_codes(means, deviations, seed=7, first=10, factor=0.5)
    assert all(torch.allclose(0.5 * a, b) for a, b in zip(whole, half, strict=True))
    assert not torch.equal(whole[0], draw_codes(means, deviations, seed=8, first=10)[0])


def test_every_encoder_of_the_transfer_learns_from_its_output():
    net = network().train()
    image = torch.rand(2, 1, 32, 32)
    means, deviations = net.style_encoder(image)
    net.render(image.flip(0), draw_codes(means, deviations, seed=0)).pow(2).mean().backward()
    without = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == []


def test_pretrained_encoders_fit_the_transfer():
    net, content, style = network(), ContentUNet(1, FEATURES), StyleVAE(1, FEATURES)
    net.content_encoder.load_state_dict(content.content_encoder.state_dict())
    net.style_encoder.load_state_dict(style.style_encoder.state_dict())
    image = torch.rand(2, 1, 32, 32)
    assert content(image).shape == style(image).shape == image.shape
    drawn, means, _ = style.reconstruct(image, seed=0, first=0)
    assert not torch.allclose(drawn, style.eval().reconstruct(image)[0])
    assert len(means) == 5


def test_instance_norm_takes_brightness_and_contrast_out_of_the_content():
    net = network(content_norm="instance")
    assert any(isinstance(m, nn.InstanceNorm2d) for m in net.content_encoder.modules())
    image = torch.rand(1, 1, 32, 32)
    near, far = net.content_encoder(image)[0], net.content_encoder(0.5 * image)[0]
    inner = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    assert torch.allclose(near[inner], far[inner], atol=0.02)


def test_wrong_names_are_refused():
    with pytest.raises(ValueError, match="latent must be one of spatial, vector, got 'flow'"):
        network(latent="flow")
    with pytest.raises(ValueError, match="adain_on must be one of decoder, skip, none, got 'all'"):
        network(adain_on="all")
    with pytest.raises(ValueError, match="norm must be one of batch, instance, got 'group'"):
        network(content_norm="group")
