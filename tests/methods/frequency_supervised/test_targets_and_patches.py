"""Targets of whole volumes, patches of them, the objective, and the way back to HU."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from medsynth_ext.inferers import VolumeInferer
from medsynth_ext.losses import relativistic_generator
from medsynth_ext.methods.frequency_supervised.bands import RestoreHUd
from medsynth_ext.methods.frequency_supervised.field import (
    CheckFieldd,
    CropToFieldd,
    FieldOfViewWarning,
    body_extent_mm,
)
from medsynth_ext.methods.frequency_supervised.objective import BandObjective
from medsynth_ext.methods.frequency_supervised.patches import draw_patch
from medsynth_ext.methods.frequency_supervised.targets import HighBandd, low_pass


@pytest.mark.parametrize(("kind", "width"), [("gaussian", 6.0), ("box", 16.0)])
def test_the_low_pass_keeps_constants_at_the_border_and_takes_detail_away(kind: str, width: float) -> None:
    options = {"kind": kind, "width_mm": width, "spacing_mm": (2.0, 2.0, 2.0)}
    constant = torch.full((1, 12, 14, 16), 0.3)
    assert torch.allclose(low_pass(constant, **options), constant, atol=1e-6)
    noise = torch.rand(1, 20, 20, 20)
    low = low_pass(noise, **options)
    assert low.shape == noise.shape
    assert low.std() < 0.2 * noise.std()


def test_a_box_of_sixteen_has_a_third_of_the_gaussians_width() -> None:
    pulse = torch.zeros(1, 99, 1, 1)
    pulse[0, 49] = 1
    at = torch.arange(99.0)
    found = []
    for kind, width in (("gaussian", 15.0), ("box", 16.0)):
        weights = low_pass(pulse, kind=kind, width_mm=width, spacing_mm=(1, 1, 1))[0, :, 0, 0]
        middle = (weights * at).sum()
        found.append(float((weights * (at - middle) ** 2).sum().sqrt()))
    assert found[0] == pytest.approx(15, abs=0.5)
    assert found[1] == pytest.approx(4.6, abs=0.1)


def test_the_bands_of_a_target_add_up_to_it_and_its_width_is_in_millimetres() -> None:
    affine = torch.diag(torch.tensor([4.0, 4.0, 4.0, 1.0]))
    label = MetaTensor(torch.rand(1, 12, 12, 12), affine=affine)
    high = HighBandd("label", width_mm=8.0)({"label": label})["high"]
    plain = label.as_tensor()
    assert torch.allclose(high.as_tensor() + low_pass(plain, width_mm=2.0, spacing_mm=(1, 1, 1)), plain, atol=1e-6)
    with pytest.raises(ValueError, match="kind must be one of gaussian, box, got 'median'"):
        low_pass(plain, width_mm=1.0, spacing_mm=(1, 1, 1), kind="median")


def test_patches_that_are_not_turned_are_cut_out() -> None:
    volume = torch.arange(10.0 * 9 * 8).view(1, 10, 9, 8)
    places = set()
    for seed in range(40):
        patch = draw_patch(volume, (4, 5, 6), np.random.RandomState(seed))
        first = int(patch[0, 0, 0, 0])
        i, j, k = first // 72, first // 8 % 9, first % 8
        assert torch.equal(patch, volume[:, i : i + 4, j : j + 5, k : k + 6])
        places.add((i, j, k))
    assert len(places) > 15


def test_patches_begin_at_the_ends_as_often_as_the_windows_of_a_sliding_window() -> None:
    volume = torch.arange(40.0).view(1, 40, 1, 1)
    state = np.random.RandomState(0)
    first = torch.tensor([int(draw_patch(volume, (24, 1, 1), state)[0, 0, 0, 0]) for _ in range(2000)])
    windows = [s[0].start for s in VolumeInferer((24, 1, 1), overlap=0.5).window_slices((40, 1, 1))]
    assert windows == [0, 12, 16]
    for end in (0, 16):
        assert (first == end).float().mean().item() == pytest.approx(1 / 3, abs=0.04)
    assert set(first.tolist()) == set(range(17))


def test_turned_patches_turn_about_the_last_axis_and_all_channels_alike() -> None:
    x, y, z = torch.meshgrid(*[torch.arange(n) - (n - 1) / 2 for n in (20, 20, 12)], indexing="ij")
    volume = torch.stack([(x**2 + y**2).sqrt(), z, x])
    patch = draw_patch(volume, (8, 8, 4), np.random.RandomState(3), angle_deg=10.0)
    state = np.random.RandomState(3)
    slacks = [n - p for n, p in zip((20, 20, 12), (8, 8, 4), strict=True)]
    start = [min(max(state.randint(-p // 2, n + p // 2 + 1), 0), n) for n, p in zip(slacks, (8, 8, 4), strict=True)]
    angle = np.deg2rad(state.uniform(-10, 10))
    box = tuple(slice(s, s + p) for s, p in zip(start, (8, 8, 4), strict=True))
    assert torch.allclose(patch[1], z[box], atol=1e-4)  # z stays
    assert torch.allclose(patch[2], (np.cos(angle) * x - np.sin(angle) * y)[box].float(), atol=1e-4)
    assert (patch[0] - volume[0][box]).abs().max() < 0.5  # the distance to the axis stays


def test_a_volume_smaller_than_the_patch_goes_on_with_its_border() -> None:
    patch = draw_patch(torch.full((2, 5, 12, 6), 2.0), (8, 8, 8), np.random.RandomState(0))
    assert torch.allclose(patch, torch.full((2, 8, 8, 8), 2.0))


class Fixed(nn.Module):
    """Answers with given channels."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values))

    def forward(self, image: Tensor) -> Tensor:
        return self.values.view(1, -1, 1, 1, 1).expand(len(image), -1, *image.shape[2:])


class Mean(nn.Module):
    """Judges by the mean of the last channel."""

    def forward(self, image: Tensor) -> Tensor:
        return image[:, -1].mean((1, 2, 3))[:, None]


def images() -> dict[str, Tensor]:
    ones = torch.ones(2, 1, 4, 4, 4)
    return {"image": 0 * ones, "label": 0.5 * ones, "high": 0.1 * ones}


def numbers(terms: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(term.detach()) for name, term in terms.items()}


def test_the_terms_are_the_papers() -> None:
    objective = BandObjective(Fixed(0.9, 1.1, -0.2, 0.5))
    found = objective.generate(images(), 1)
    assert numbers(objective.generator_terms(found)) == pytest.approx({"total": 0.4, "high_band": 0.3})
    assert objective.discriminator_terms(found) == {}


def test_without_its_weight_or_without_bands_the_high_band_does_not_count() -> None:
    for objective in (BandObjective(Fixed(0.9, 1.1, -0.2, 0.5), high_weight=0.0), BandObjective(Fixed(0.9))):
        assert set(objective.generator_terms(objective.generate(images(), 1))) == {"total"}


def test_the_judge_joins_after_the_warm_up_and_sees_the_high_band() -> None:
    objective = BandObjective(
        Fixed(0.9, 1.1, -0.2, 0.5), discriminator=Mean(), adversarial_weight=0.01, warm_up_iterations=3
    )
    assert objective.discriminator_terms(objective.generate(images(), 3)) == {}
    found = objective.generate(images(), 4)
    want = 0.01 * relativistic_generator(torch.full((2, 1), 0.1), torch.full((2, 1), -0.2))
    assert float(objective.generator_terms(found)["adversarial"].detach()) == pytest.approx(float(want), rel=1e-5)
    assert not any(term.requires_grad for term in objective.discriminator_terms(found).values())
    objective.generator_terms(found)["adversarial"].backward()
    assert objective.network.values.grad[2] != 0
    assert objective.network.values.grad[0] == 0


def test_a_judge_of_the_high_band_needs_bands() -> None:
    objective = BandObjective(Fixed(0.9), discriminator=Mean())
    found = objective.generate(images(), 1)
    with pytest.raises(ValueError, match="needs a network with bands"):
        objective.generator_terms(found)
    with pytest.raises(ValueError, match="judged must be high or pred"):
        BandObjective(Fixed(0.9), judged="low")


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-1.0, 1.0)])
def test_hu_come_back_from_either_range(value_range: tuple[float, float]) -> None:
    low, high = value_range
    hu = torch.tensor([-1024.0, 0.0, 2252.7])
    scaled = (hu + 1024) / 3276.7 * (high - low) + low
    output = torch.stack([scaled, scaled, scaled - scaled[0], 0 * scaled]).view(4, 3, 1, 1)
    found = RestoreHUd("pred", value_range=value_range, bands=True)({"pred": output})
    assert torch.allclose(found["pred"].flatten(), hu, atol=0.01)
    assert torch.allclose(found["high"].flatten(), hu + 1024, atol=0.01)
    assert RestoreHUd("pred")({"pred": torch.full((1, 1, 1, 1), 7.0)})["pred"].item() == pytest.approx(2252.7)
    with pytest.raises(ValueError, match="bands are wanted, but the network gives 1 channel"):
        RestoreHUd("pred", bands=True)({"pred": output[:1]})


def test_a_body_larger_than_the_trainings_is_said_with_its_size() -> None:
    image = torch.full((1, 20, 20, 40), -0.5)
    image[:, 5:15, 4:16, 2:38] = 2.0
    scan = MetaTensor(
        image, affine=torch.diag(torch.tensor([10.0, 10.0, 10.0, 1.0])), meta={"filename_or_obj": "a.nii"}
    )
    assert body_extent_mm(image, (10, 10, 10)) == [100, 120, 360]
    with pytest.warns(
        FieldOfViewWarning, match=r"a\.nii shows more .*: head-feet 360 mm \(trained on 200\); what lies below is left"
    ):
        CheckFieldd("image", field_mm=(150, 150, 200))({"image": scan})
    with pytest.warns(FieldOfViewWarning, match=r"front-back 120 mm \(trained on 100\); do not trust"):
        CheckFieldd("image", field_mm=(150, 100, 400))({"image": scan})
    with pytest.warns(FieldOfViewWarning, match=r"more air around the body .*: head-feet 400 mm \(trained on 360\)"):
        CheckFieldd("image", field_mm=(200, 200, 360), cropped=False)({"image": scan})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CheckFieldd("image", field_mm=(200, 200, 370), cropped=False)({"image": scan})
        CheckFieldd("image", field_mm=(200, 200, 360))({"image": scan})
    assert body_extent_mm(torch.zeros(1, 4, 4, 4), (1, 1, 1)) == [0, 0, 0]


def test_a_crop_keeps_the_field_below_the_vertex_and_a_wider_body_and_comes_back() -> None:
    image = torch.zeros(1, 20, 20, 40)
    image[:, 6:16, 2:18, 4:38] = torch.rand(1, 10, 16, 34, generator=torch.Generator().manual_seed(0)) + 1
    scan = MetaTensor(image, affine=torch.diag(torch.tensor([10.0, 10.0, 10.0, 1.0])))
    crop = CropToFieldd("image", field_mm=(140, 120, 200))
    cut = crop({"image": scan})
    # 14 planes around the middle of 6 to 16; all 16 of the body, which has more than 12; 20 down from plane 38
    assert torch.equal(cut["image"].as_tensor(), image[:, 4:18, 2:18, 18:38])
    assert cut["image"].affine[:3, 3].tolist() == [40.0, 20.0, 180.0]
    back = crop.inverse(cut)["image"]
    assert back.shape == image.shape
    assert torch.equal(back[..., 18:38].as_tensor(), image[..., 18:38])
    assert not back[..., :18].any()
    whole = CropToFieldd("image", field_mm=(300, 300, 500))({"image": scan})["image"]
    assert torch.equal(whole.as_tensor(), image)
