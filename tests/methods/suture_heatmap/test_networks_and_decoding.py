"""The suture detector's networks, losses, decoders and step."""

from __future__ import annotations

import math

import pytest
import torch
from monai.losses import DiceLoss

from medsynth_ext import ops
from medsynth_ext.engines import StepTrainer
from medsynth_ext.methods.suture_heatmap import PlainUNet, RegionPoints, ResNeXtUNet, ThresholdPoints
from medsynth_ext.methods.suture_heatmap.claims.scipy_loop import scipy_points
from medsynth_ext.methods.suture_heatmap.inferer import ProbabilityInferer
from medsynth_ext.methods.suture_heatmap.losses import HeatmapMSELoss
from medsynth_ext.methods.suture_heatmap.resnext_unet import ResNeXt50
from medsynth_ext.methods.suture_heatmap.step import PointMapStep
from medsynth_ext.transforms import PointFrameAugmentation

CARD_POINTS = torch.tensor([[[12.0, 14.0], [12.0, 23.0], [30.5, 40.25], [36.0, 12.0], [24.0, 54.0]]])


def card_map() -> torch.Tensor:
    return ops.render_point_map(CARD_POINTS, torch.ones(1, 5, dtype=torch.bool), (48, 64), 3.0)


def test_encoder_is_resnext_50_32x4d():
    with torch.device("meta"):
        encoder = ResNeXt50()
    # 25,028,904 parameters are published for the classifier; its last layer has 2048 * 1000 + 1000 of them.
    assert sum(p.numel() for p in encoder.parameters()) == 25_028_904 - 2_049_000
    shapes = {name: tuple(p.shape) for name, p in encoder.state_dict().items()}
    assert shapes["layer1.0.conv2.weight"] == (128, 4, 3, 3)
    assert shapes["layer4.2.conv3.weight"] == (2048, 1024, 1, 1)
    assert shapes["layer2.0.downsample.0.weight"] == (512, 256, 1, 1)
    assert len([name for name in shapes if name.endswith("conv2.weight")]) == 3 + 4 + 6 + 3
    maps = encoder(torch.empty(1, 3, 64, 96, device="meta"))
    assert [tuple(m.shape[1:]) for m in maps] == [(64, 32, 48), (256, 16, 24), (512, 8, 12), (1024, 4, 6), (2048, 2, 3)]


def test_decoder_has_the_papers_widths_and_full_resolution():
    with torch.device("meta"):
        network = ResNeXtUNet()
    assert [block[0].out_channels for block in network.decoder] == [256, 128, 64, 32, 16]
    assert [block[0].in_channels for block in network.decoder] == [2048 + 1024, 256 + 512, 128 + 256, 64 + 64, 32]
    assert network(torch.empty(1, 3, 64, 96, device="meta")).shape == (1, 1, 64, 96)


def test_a_thin_resnext_unet_learns_from_one_step():
    torch.manual_seed(0)
    network = ResNeXtUNet(decoder=(8, 8, 8, 8, 8), encoder={"groups": 2, "base_width": 4, "blocks": (1, 1, 1, 1)})
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    image, target = torch.rand(2, 3, 32, 32), torch.rand(2, 1, 32, 32)
    before = HeatmapMSELoss()(network(image), target)
    before.backward()
    assert all(p.grad is not None for p in network.parameters())
    optimizer.step()
    assert HeatmapMSELoss()(network(image), target) < before


@pytest.mark.parametrize("size", [(32, 48), (64, 64)])
def test_plain_networks_keep_the_size(size):
    for options in ({"features": (4, 8, 8)}, {"features": (4, 8, 8), "norm_last": True, "dropout": 0.3}):
        assert PlainUNet(**options)(torch.rand(2, 3, *size)).shape == (2, 1, *size)


def test_baseline_block_is_convolution_relu_norm_dropout():
    kinds = [type(layer).__name__ for layer in PlainUNet(features=(4, 8), norm_last=True, dropout=0.3).down[0]]
    assert kinds == ["Conv2d", "ReLU", "BatchNorm2d", "Dropout"] * 2
    kinds = [type(layer).__name__ for layer in PlainUNet(features=(4, 8)).down[0]]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU"] * 2


def test_wrong_numbers_of_levels_are_named():
    with pytest.raises(ValueError, match=r"features must hold at least two numbers, got \[4\]"):
        PlainUNet(features=[4])
    with pytest.raises(ValueError, match=r"decoder must be five numbers, got \[4\]"):
        ResNeXtUNet(decoder=[4])
    with pytest.raises(ValueError, match="blocks must be four numbers"):
        ResNeXt50(blocks=(1, 1))


def test_linear_dice_prefers_a_disc_to_the_gaussian_and_squared_dice_the_gaussian():
    """With linear denominators the best answer to a Gaussian is a disc of 1.514 sigma, with a loss of 0.364."""
    target = ops.render_point_map(torch.tensor([[[60.0, 60.0]]]), torch.ones(1, 1, dtype=torch.bool), (121, 121), 12.0)
    at = torch.arange(121) - 60
    disc = (at[:, None] ** 2 + at**2 <= (1.514 * 12) ** 2)[None, None].float()
    losses = {}
    for squared in (False, True):
        dice = DiceLoss(batch=True, squared_pred=squared, smooth_nr=1.0, smooth_dr=1.0)
        losses[squared] = (dice(disc, target).item(), dice(target, target).item())
    assert losses[False][0] == pytest.approx(0.364, abs=2e-3)
    assert losses[False][0] < losses[False][1] - 0.1
    assert losses[True][1] < 1e-3 < losses[True][0]


def test_card_vector_goes_through_the_decoder():
    points, score, count, overflow = RegionPoints()(card_map())
    assert count.tolist() == [5]
    assert not overflow.any()
    pair, distance = ops.match_points(points[:, :5], CARD_POINTS.double(), 0.05)
    assert sorted(pair[0].tolist()) == [0, 1, 2, 3, 4]
    assert distance.max() < 0.05
    assert ((score[0, :5] > 0.3) & (score[0, :5] < 1)).all()
    assert RegionPoints(kappa=math.inf)(card_map())[2].tolist() == [4]
    assert RegionPoints(min_area=65)(card_map())[2].tolist() == [4]


def test_low_maps_hold_points_only_without_a_least_peak():
    low = 0.2 * card_map()
    assert RegionPoints()(low)[2].tolist() == [5]
    assert RegionPoints(min_peak=0.3)(low)[2].tolist() == [0]
    assert RegionPoints(min_peak=0.3)(torch.full((1, 1, 16, 16), math.nan))[2].tolist() == [0]


def test_baseline_decoder_takes_regions_above_one_half():
    points, _, count, _ = ThresholdPoints()(card_map())
    assert count.tolist() == [5]
    assert (points[0, 0] - CARD_POINTS[0, 0]).abs().max() < 0.3
    assert ThresholdPoints()(0.4 * card_map())[2].tolist() == [0]


@pytest.mark.parametrize("kappa", [1.0, 1.5])
def test_decoder_gives_what_a_scipy_loop_gives(kappa):
    generator = torch.Generator().manual_seed(3)
    points = torch.rand(4, 10, 2, generator=generator) * torch.tensor([70.0, 90.0])
    maps = ops.render_point_map(points, torch.ones(4, 10, dtype=torch.bool), (70, 90), 2.5)
    maps = (maps + 0.05 * torch.rand(maps.shape, generator=generator)).clamp(0, 1)
    found, _, count, _ = RegionPoints(kappa=kappa)(maps)
    for ours, n, theirs in zip(found, count.tolist(), scipy_points(maps[:, 0].numpy(), kappa), strict=True):
        assert n == len(theirs) > 3
        assert torch.allclose(ours[:n], torch.from_numpy(theirs), atol=1e-9)


def test_flip_average_is_the_mean_of_mirrored_answers():
    torch.manual_seed(0)
    network = PlainUNet(features=(4, 8)).eval()
    x = torch.rand(1, 3, 16, 24)
    with torch.no_grad():
        plain, mean = ProbabilityInferer()(x, network), ProbabilityInferer(flips=True)(x, network)
        again = ProbabilityInferer(flips=True)(x.flip(3), network).flip(3)
    assert torch.equal(plain, network(x).sigmoid())
    assert torch.allclose(mean, again, atol=1e-6)
    assert not torch.allclose(mean, plain)


def test_step_draws_the_points_that_it_has_moved():
    torch.manual_seed(0)
    network = PlainUNet(features=(4, 8))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    points = torch.full((2, 4, 2), torch.nan)
    points[:, :2] = torch.tensor([[10.0, 12.0], [20.0, 30.0]])
    batch = {"image": torch.rand(2, 3, 32, 48), "points": points}
    off = PointFrameAugmentation(flip_prob=0.0, rotate_prob=0.0, colour_prob=0.0, contrast_prob=0.0)
    step = PointMapStep(off, network, HeatmapMSELoss(), optimizer, sigma=2.0, target={"window": 8.0})
    before = [p.detach().clone() for p in network.parameters()]
    trainer = StepTrainer("cpu", 1, [batch], step, decollate=False)
    trainer.run()
    output = trainer.state.output
    want = ops.render_point_map(points, ~points.isnan().any(-1), (32, 48), 2.0, window=8.0)
    assert torch.equal(output["label"], want)
    assert want.amax() == 1
    assert output["pred"].min() >= 0
    assert output["pred"].max() <= 1
    assert any(not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_a_frame_without_points_has_an_empty_target_and_a_finite_loss():
    network = PlainUNet(features=(4, 8))
    batch = {"image": torch.rand(2, 3, 32, 48), "points": torch.full((2, 4, 2), torch.nan)}
    dice = DiceLoss(sigmoid=True, batch=True, smooth_nr=1.0, smooth_dr=1.0)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    step = PointMapStep(PointFrameAugmentation(), network, dice, optimizer, sigma=2.0)
    trainer = StepTrainer("cpu", 1, [batch], step, decollate=False)
    trainer.run()
    assert trainer.state.output["label"].eq(0).all()
    assert torch.isfinite(trainer.state.output["loss"])
