"""Features from any network: calibrated, fixed unless opened, from a file, trained with questions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medsynth_ext.handlers import WeightsError, half_state_dict
from medsynth_ext.networks import FeatureClassifier, FeatureNetwork, VGGFeatures


def images(count: int = 4) -> torch.Tensor:
    return torch.rand(count, 1, 32, 32, generator=torch.Generator().manual_seed(0))


def test_calibrated_maps_have_a_mean_square_of_one():
    network = FeatureNetwork(width=1 / 16)
    network.calibrate(images())
    assert [float(part.pow(2).mean()) for part in network(images())] == pytest.approx([1.0] * 5, rel=1e-4)


def test_weights_and_divisors_come_back_from_a_file(tmp_path):
    network = FeatureNetwork(width=1 / 16)
    nn.init.normal_(network.body.features[0].weight)
    network.calibrate(images())
    torch.save(half_state_dict(network), tmp_path / "f.pt")
    again = FeatureNetwork(width=1 / 16, weights=str(tmp_path / "f.pt"))
    assert all(
        torch.allclose(a, b, rtol=0.02, atol=0.02) for a, b in zip(network(images()), again(images()), strict=True)
    )
    with pytest.raises(WeightsError, match="another network"):
        FeatureNetwork(width=1 / 8, weights=str(tmp_path / "f.pt"))
    with pytest.raises(WeightsError, match="does not exist"):
        FeatureNetwork(weights=str(tmp_path / "none.pt"))


def test_it_is_fixed_unless_it_is_opened():
    fixed, opened = FeatureNetwork(width=1 / 16), FeatureNetwork(width=1 / 16, trainable=True)
    assert not any(p.requires_grad for p in fixed.parameters())
    assert not fixed.train().training
    assert all(p.requires_grad for p in opened.parameters())
    assert opened.train().body.training
    image = images().requires_grad_()
    fixed(image)[-1].sum().backward()
    assert image.grad is not None


def test_any_network_will_do_and_sees_the_wanted_range_and_size():
    seen = []

    class Body(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return x

    network = FeatureNetwork(Body(), value_range=(0, 10), size=(8, 8), layers=1)
    network(torch.full((1, 1, 16, 16), 10.0))
    assert seen[0].shape == (1, 1, 8, 8)
    assert torch.equal(seen[0], torch.ones(1, 1, 8, 8))
    with pytest.raises(ValueError, match="gives 1 maps, but layers is 5"):
        FeatureNetwork(Body())(images())


def test_questions_are_answered_by_training():
    torch.manual_seed(0)
    features = FeatureNetwork(width=1 / 16, trainable=True)
    classifier = FeatureClassifier(features, {"bright": 2}, probe=(1, 1, 32, 32))
    optimizer = torch.optim.Adam(classifier.parameters(), 0.01)
    truth = torch.tensor([0, 1] * 8)
    batch = torch.rand(16, 1, 32, 32) * (0.3 + 0.7 * truth[:, None, None, None])
    for _ in range(20):
        loss = nn.functional.cross_entropy(classifier(batch)["bright"], truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (classifier(batch)["bright"].argmax(1) == truth).all()


def test_vgg_16_has_its_layers_and_both_conventions_see_the_right_colours(tmp_path):
    with torch.device("meta"):
        sixteen = VGGFeatures(depth=16)
    assert sum(isinstance(layer, nn.Conv2d) for layer in sixteen.features) == 11  # up to the first of block 5
    assert [sixteen.features[tap - 1].out_channels for tap in sixteen.taps] == [64, 128, 256, 512, 512]
    plain = VGGFeatures(depth=16)
    torch.save(plain.state_dict(), tmp_path / "v.pt")
    caffe = VGGFeatures(str(tmp_path / "v.pt"), depth=16, convention="caffe")
    red = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    wanted = torch.tensor([0 - 103.939, 0 - 116.779, 255 - 123.68]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    assert torch.allclose(caffe(red)[0], torch.relu(caffe.features[0](wanted)), rtol=1e-4, atol=1e-2)
    with pytest.raises(ValueError, match="got 11"):
        VGGFeatures(depth=11)
