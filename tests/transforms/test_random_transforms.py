"""The random MONAI transforms: repeatable, shared between keys, and each doing what its name says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from medsynth_ext.generators import SynthSegGenerator
from medsynth_ext.methods.synthseg.labels import LabelTable
from medsynth_ext.transforms import (
    RandLowResolution,
    RandLowResolutiond,
    RandSmoothBiasField,
    RandSmoothBiasFieldd,
    RandSVFAffine,
    RandSVFAffined,
    RandSynthFromLabels,
    RandSynthFromLabelsd,
)

SHAPES = [(1, 33, 40), (2, 20, 24, 18)]
IMAGE_TRANSFORMS = [
    RandLowResolution(1.0),
    RandSmoothBiasField(1.0),
    RandSVFAffine(1.0, velocity_std=2.0, node_spacing=8),
]


def generator() -> SynthSegGenerator:
    table = LabelTable(
        generation_labels=[0, 1, 2], n_neutral=3, generation_classes=[0, 1, 2], segmentation_labels=[0, 1, 2]
    )
    return SynthSegGenerator(table, crop_size=(16, 16, 16))


def image(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    axes = [torch.linspace(0, 3, n) for n in shape[1:]]
    smooth = sum(torch.sin(a * (i + 1.3)) for i, a in enumerate(torch.meshgrid(*axes, indexing="ij")))
    return (smooth + 4).expand(shape).clone() + 0.1 * torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("transform", IMAGE_TRANSFORMS, ids=lambda t: type(t).__name__)
def test_same_state_gives_same_result_and_another_state_another(transform, shape):
    x = image(shape)
    first = transform.set_random_state(seed=3)(x)
    again = transform.set_random_state(seed=3)(x)
    other = transform.set_random_state(seed=4)(x)
    assert first.shape == x.shape
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, x)


@pytest.mark.parametrize("transform", IMAGE_TRANSFORMS, ids=lambda t: type(t).__name__)
def test_metadata_is_kept(transform):
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0], dtype=torch.float64))
    result = transform.set_random_state(seed=1)(MetaTensor(image(SHAPES[1]), affine=affine))
    assert isinstance(result, MetaTensor)
    assert torch.equal(result.affine, affine)


@pytest.mark.parametrize("cls", [RandLowResolution, RandSmoothBiasField, RandSVFAffine])
def test_probability_zero_changes_nothing(cls):
    x = image(SHAPES[1])
    assert torch.equal(cls(0.0).set_random_state(seed=0)(x), x)


@pytest.mark.parametrize("transform", IMAGE_TRANSFORMS, ids=lambda t: type(t).__name__)
def test_image_without_channel_is_refused(transform):
    with pytest.raises(ValueError, match=r"image must be \(C, H, W\) or \(C, D, H, W\)"):
        transform(torch.rand(7, 7))


@pytest.mark.parametrize(
    "transform",
    [RandLowResolutiond(["a", "b"], 1.0), RandSmoothBiasFieldd(["a", "b"], 1.0), RandSVFAffined(["a", "b"], 1.0)],
    ids=lambda t: type(t).__name__,
)
def test_keys_share_one_draw(transform):
    x = image(SHAPES[1])
    result = transform.set_random_state(seed=5)({"a": x, "b": x.clone(), "c": 1})
    assert torch.equal(result["a"], result["b"])
    assert not torch.equal(result["a"], x)
    assert result["c"] == 1


def test_labels_move_with_their_image_and_stay_integers():
    labels = torch.zeros(1, 32, 32, 32, dtype=torch.uint8)
    labels[:, 8:20, 10:22, 6:25] = 7
    transform = RandSVFAffined(["image", "label"], mode=["linear", "nearest"], velocity_std=2.0, node_spacing=8)
    result = transform.set_random_state(seed=0)({"image": labels.float(), "label": labels})
    assert result["label"].dtype == torch.uint8
    assert set(result["label"].unique().tolist()) == {0, 7}
    agree = ((result["image"] > 3.5) == (result["label"] == 7)).float().mean()
    assert agree > 0.99


@pytest.mark.parametrize("cls", [RandLowResolutiond, RandSmoothBiasFieldd, RandSVFAffined])
def test_keys_of_differing_sizes_are_refused(cls):
    with pytest.raises(ValueError, match=r"b has spatial size \(9, 8\), but a has \(8, 8\)"):
        cls(["a", "b"], 1.0)({"a": torch.rand(1, 8, 8), "b": torch.rand(1, 9, 8)})


@pytest.mark.parametrize("cls", [RandLowResolution, RandSmoothBiasField, RandSVFAffine])
def test_use_without_a_draw_or_with_one_for_another_size_is_refused(cls):
    transform = cls(1.0)
    with pytest.raises(RuntimeError, match=r"call randomize\(\) first"):
        transform(torch.rand(1, 8, 8), randomize=False)
    transform.randomize((8, 8))
    with pytest.raises(ValueError, match=r"spatial size \(9, 8\), but the draw is for \(8, 8\)"):
        transform(torch.rand(1, 9, 8), randomize=False)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("transform", IMAGE_TRANSFORMS, ids=lambda t: type(t).__name__)
def test_half_precision_image_stays_so_and_is_placed_exactly(transform, dtype):
    x = image((1, 33, 200)).to(dtype)
    result = transform.set_random_state(seed=3)(x)
    want = transform.set_random_state(seed=3)(x.float())
    assert result.dtype == dtype
    assert (result.float() - want).abs().max() <= 3 * torch.finfo(dtype).eps * want.abs().max()


def test_rotation_turns_the_image_about_its_centre():
    x = torch.zeros(1, 21, 21)
    x[0, 10, 10] = 1
    turn = RandSVFAffine(rotate_range_deg=45, scale_range=0, shear_range=0, velocity_std=0)
    result = turn.set_random_state(seed=0)(x)
    assert result[0, 10, 10].item() == pytest.approx(1, abs=1e-5)


def test_low_resolution_lowers_detail_along_the_coarse_axis_only():
    transform = RandLowResolution(1.0, isotropic_prob=0.0, max_spacing=6).set_random_state(seed=2)
    x = torch.rand(1, 48, 48, 48, generator=torch.Generator().manual_seed(0))
    result = transform(x)
    coarse = int(np.argmax(transform.spacing))
    roughness = [result.diff(dim=d + 1).abs().mean().item() for d in range(3)]
    assert roughness[coarse] < 0.5 * min(r for d, r in enumerate(roughness) if d != coarse)


def test_bias_field_is_smooth_positive_and_within_its_spread():
    x = torch.ones(1, 40, 40, 40)
    field = RandSmoothBiasField(1.0, std=0.5).set_random_state(seed=1)(x)
    assert field.min() > 0
    assert field.diff(dim=1).abs().max() < 0.25
    assert field.log().std() > 0.01


def test_synthesis_makes_an_image_and_a_target_with_an_affine():
    labels = torch.randint(0, 3, (1, 24, 24, 24), dtype=torch.uint8)
    result = Compose([RandSynthFromLabelsd("label", generator())]).set_random_state(seed=0)({"label": labels})
    assert result["image"].shape == result["label"].shape == (1, 16, 16, 16)
    centre = result["image"].affine.double() @ torch.tensor([7.5, 7.5, 7.5, 1.0], dtype=torch.float64)
    assert centre[:3].abs().max() < 1e-9


def test_synthesis_is_repeatable_from_the_random_state():
    labels = torch.randint(0, 3, (1, 24, 24, 24), dtype=torch.uint8)
    transform = RandSynthFromLabels(generator())
    first = [t.clone() for t in transform.set_random_state(seed=9)(labels)]
    again = transform.set_random_state(seed=9)(labels)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(transform(labels)[0], again[0])


def test_synthesis_from_float_labels_is_refused():
    with pytest.raises(TypeError, match=r"labels must be integers, got torch\.float32"):
        RandSynthFromLabels(generator())(torch.zeros(1, 24, 24, 24))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandSVFAffine(mode="cubic"), "mode must be 'linear' or 'nearest'"),
        (lambda: RandSVFAffine(border="wrap"), "border must be"),
        (lambda: RandLowResolution(max_spacing=0.5), "must be at least 1"),
        (lambda: RandLowResolution(isotropic_prob=2), "isotropic_prob must be in"),
        (lambda: RandSmoothBiasField(nodes=1), "nodes must be at least 2"),
        (lambda: RandSynthFromLabelsd(["a", "b"], generator()), "keys must be one key"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
