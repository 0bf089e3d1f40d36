"""Discriminators, feature networks and first weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medsynth_ext.handlers import WeightsError
from medsynth_ext.networks import VGG_LAYERS, MultiScaleDiscriminator, PatchDiscriminator, VGGFeatures, xavier_init


def test_discriminator_has_the_published_size_and_receptive_field() -> None:
    with torch.device("meta"):
        network = MultiScaleDiscriminator(4)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(5.53e6, rel=0.01)
    torch.manual_seed(0)
    plain = PatchDiscriminator(1, features=2)
    for i, stage in enumerate(plain.stages[1:-1], 1):
        stage[1] = torch.nn.Identity()  # an instance norm sees the whole image
        assert i < 5
    image = torch.randn(1, 1, 160, 160, requires_grad=True)
    decision = plain(image)[-1]
    decision[0, 0, decision.shape[2] // 2, decision.shape[3] // 2].backward()
    seen = image.grad[0, 0].abs().sum(1).nonzero()
    assert int(seen.max() - seen.min()) + 1 == 70


@pytest.mark.parametrize(("layers", "patch"), [(2, 16), (3, 34), (4, 70), (5, 142)])
def test_more_layers_judge_larger_patches(layers: int, patch: int) -> None:
    torch.manual_seed(0)
    network = PatchDiscriminator(1, features=2, layers=layers, padding=1, spectral=False, norm=None).double()
    image = torch.randn(1, 1, 2 * patch, 2 * patch, dtype=torch.double, requires_grad=True)
    decision = network(image)[-1]
    decision[0, 0, decision.shape[2] // 2, decision.shape[3] // 2].backward()
    seen = image.grad[0, 0].abs().sum(1).nonzero()
    assert int(seen.max() - seen.min()) + 1 == patch


def test_the_width_is_capped_and_the_size_is_that_of_the_public_code() -> None:
    with torch.device("meta"):
        three, five = (PatchDiscriminator(3, layers=n, padding=1, spectral=False) for n in (4, 6))
    assert sum(p.numel() for p in three.parameters()) == pytest.approx(2.765e6, rel=0.002)
    assert sum(p.numel() for p in five.parameters()) == pytest.approx(11.16e6, rel=0.01)
    narrow = PatchDiscriminator(1, features=2, layers=4, max_features=4)
    assert max(p.shape[0] for p in narrow.parameters()) == 4


def test_volumes_are_judged_and_a_sigmoid_gives_probabilities() -> None:
    volumes = MultiScaleDiscriminator(1, spatial_dims=3, features=2, layers=2, sigmoid=True)
    outputs = volumes(100 * torch.randn(1, 1, 16, 16, 16))
    assert all(scale[-1].ndim == 5 and scale[-1].min() >= 0 and scale[-1].max() <= 1 for scale in outputs)
    logits = PatchDiscriminator(1, features=2, layers=2)
    probabilities = PatchDiscriminator(1, features=2, layers=2, sigmoid=True)
    probabilities.load_state_dict(logits.state_dict())
    image = torch.randn(2, 1, 16, 16)
    assert torch.allclose(probabilities.eval()(image)[-1], logits.eval()(image)[-1].sigmoid())


def test_every_scale_gives_all_stages_and_the_second_sees_half_the_size() -> None:
    network = MultiScaleDiscriminator(2, features=2)
    outputs = network(torch.randn(1, 2, 64, 64))
    assert [len(scale) for scale in outputs] == [5, 5]
    assert outputs[0][0].shape[-1] == 33
    assert outputs[1][0].shape[-1] == 17
    seen = []
    network.scales[1].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    network(torch.ones(1, 2, 8, 8))
    assert torch.equal(seen[0], torch.ones(1, 2, 4, 4))  # padding is not counted


def test_random_features_are_the_same_every_time_and_need_no_training() -> None:
    image = torch.rand(1, 1, 16, 16)
    state = torch.random.get_rng_state()
    first, second = VGGFeatures(width=1 / 16), VGGFeatures(width=1 / 16)
    assert torch.equal(torch.random.get_rng_state(), state)
    found = first(image)
    assert len(found) == len(VGG_LAYERS)
    assert [f.shape[2] for f in found] == [16, 8, 4, 2, 1]
    assert all(torch.equal(a, b) for a, b in zip(found, second(image), strict=True))
    assert not first.train().training
    assert not any(p.requires_grad for p in first.parameters())


def test_weights_of_the_whole_classifier_are_read(tmp_path: Path) -> None:
    network = VGGFeatures()
    state = {name: value.half() for name, value in network.state_dict().items()}
    torch.save(
        {**state, "features.30.weight": torch.zeros(1), "classifier.0.weight": torch.zeros(2)}, tmp_path / "v.pt"
    )
    loaded = VGGFeatures(str(tmp_path / "v.pt"))
    assert torch.allclose(loaded.features[28].weight, network.features[28].weight, atol=1e-3)
    grey = torch.zeros(1, 1, 16, 16)
    rgb = (torch.full((1, 3, 16, 16), 0.5) - loaded.mean) / loaded.std
    assert torch.allclose(loaded(grey)[0], torch.relu(loaded.features[0](rgb)))
    with pytest.raises(WeightsError, match="does not exist"):
        VGGFeatures(str(tmp_path / "none.pt"))
    with pytest.raises(ValueError, match="width must be 1"):
        VGGFeatures(str(tmp_path / "v.pt"), width=0.5)


def test_xavier_weights_have_the_gain_and_spectral_norms_are_one() -> None:
    torch.manual_seed(0)
    layer = xavier_init(torch.nn.Conv2d(16, 32, 3), gain=0.02)
    assert layer.weight.std().item() == pytest.approx(0.02 * (2 / (9 * 48)) ** 0.5, rel=0.05)
    assert layer.bias.abs().sum() == 0
    normed = xavier_init(torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(8, 8), n_power_iterations=30))
    assert torch.linalg.matrix_norm(normed.weight, 2).item() == pytest.approx(1, abs=0.02)
