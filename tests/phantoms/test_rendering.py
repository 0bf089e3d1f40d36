"""The renderer: contrasts as a radiologist expects them, and an acquisition that keeps signal and places."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor

from medsynth_ext.phantoms.head import HeadPhantom, grid_axes, head_phantom
from medsynth_ext.phantoms.head_anatomy import FAT, RIGHT_OF
from medsynth_ext.phantoms.rendering import (
    HOUNSFIELD,
    RELAXATION,
    RENDER_CONTRASTS,
    Contrast,
    coil_sensitivity,
    render_head,
    resample_to_phantom,
    slice_profile,
)

CLEAN = {"noise": 0.0, "bias": 0.0, "variation": 0.0, "texture": 0.0}


@cache
def head() -> HeadPhantom:
    return head_phantom(5, shape=(64, 64, 64), spacing_mm=3.0, population="old", lesions=15)


def median(image: Tensor, value: int) -> float:
    """Median over the voxels that lie wholly inside one tissue."""
    fine = head().fine_tissues.view(64, 2, 64, 2, 64, 2).permute(0, 2, 4, 1, 3, 5).reshape(64, 64, 64, 8)
    pure = (fine == value).all(-1)
    assert pure.any()
    return float(image[0].as_tensor()[pure].median())


def test_every_tissue_has_a_mean_in_every_contrast() -> None:
    present = {v for v in head().fine_tissues.unique().tolist() if v not in RIGHT_OF.values()}
    assert present <= set(RELAXATION)
    assert set(RELAXATION) == set(HOUNSFIELD)
    for name, contrast in RENDER_CONTRASTS.items():
        assert all(math.isfinite(m) for m in contrast.means().values()), name


def test_signal_equations_against_hand_worked_values() -> None:
    spin_echo = Contrast(repetition_ms=832 * math.log(2), echo_ms=69 * math.log(2))
    assert spin_echo.means()[2] == pytest.approx(0.70 / 4)
    nulled = Contrast(repetition_ms=1e9, echo_ms=0, inversion_ms=4300 * math.log(2))
    assert nulled.means()[4] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("contrast", "dark_to_bright"),
    [
        ("T1", [4, 3, 2, FAT]),
        ("T2", [515, 2, 3, 25, 4]),
        ("PD", [515, 2, 3]),
        ("FLAIR", [4, 2, 3, 25]),
        ("DBS", [2, 10, 3]),
        ("CT", [0, FAT, 4, 2, 3, 516, 515]),
    ],
)
def test_tissues_have_the_order_of_brightness_that_a_radiologist_expects(contrast: str, dark_to_bright: list) -> None:
    image = render_head(head(), contrast, 0, **(CLEAN | {"variation": 0.02}))
    seen = [median(image, value) for value in dark_to_bright]
    assert seen == sorted(seen)
    assert len(set(seen)) == len(seen)


def test_pure_voxels_show_the_means_of_the_table() -> None:
    image = render_head(head(), "T2", 0, thickness_mm=1.5, **CLEAN)
    means = RENDER_CONTRASTS["T2"].means()
    inner = float(image[0, 32, 32, 40])
    assert inner > 0
    assert median(image, 2) / median(image, 16) == pytest.approx(means[2] / means[16], rel=0.05)


def test_partial_volume_lies_between_the_tissues_at_a_border() -> None:
    image = render_head(head(), "CT", 0, thickness_mm=1.5, **CLEAN).as_tensor()
    assert image.unique().numel() > 1000
    assert float(image.min()) >= HOUNSFIELD[0] - 1e-2
    assert float(image.max()) <= HOUNSFIELD[515] + 1e-2


def test_same_seeds_give_the_same_image_and_other_seeds_another() -> None:
    a, b, c = (render_head(head(), "T1", s).as_tensor() for s in (4, 4, 5))
    assert torch.equal(a, b)
    assert not torch.allclose(a, c, rtol=0.01)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("spacing", [3.0, 9.0, 15.0, 21.0])
def test_thick_slices_have_their_own_grid_over_the_same_field(axis: int, spacing: float) -> None:
    spacings = [3.0, 3.0, 3.0]
    spacings[axis] = spacing
    image = render_head(head(), "FLAIR", 0, spacing_mm=spacings)
    shape = [64, 64, 64]
    shape[axis] = round(192 / spacing)
    assert isinstance(image, MetaTensor)
    assert image.dtype == torch.float32
    assert list(image.shape) == [1, *shape]
    assert torch.allclose(torch.diagonal(image.affine)[:3], torch.tensor(spacings, dtype=torch.float64))
    centre = image.affine @ torch.tensor([*((n - 1) / 2 for n in shape), 1.0], dtype=torch.float64)
    middle = head().affine @ torch.tensor([31.5, 31.5, 31.5, 1.0], dtype=torch.float64)
    assert torch.allclose(centre, middle)


def test_resampling_keeps_places_and_a_linear_ramp() -> None:
    thick = render_head(head(), "T1", 0, spacing_mm=(3.0, 3.0, 9.0), **CLEAN)
    back = resample_to_phantom(thick, head())
    assert back.shape == (1, 64, 64, 64)
    sharp = render_head(head(), "T1", 0, **CLEAN)
    shifts = [-2, -1, 0, 1, 2]
    score = [float((back.as_tensor() * sharp.as_tensor().roll(s, 3)).sum()) for s in shifts]
    assert shifts[int(np.argmax(score))] == 0
    ramp = torch.arange(21).float().expand(1, 64, 64, 21)
    lifted = resample_to_phantom(MetaTensor(ramp.clone(), affine=thick.affine), head()).as_tensor()[0, 0, 0]
    assert torch.allclose(torch.diff(lifted)[3:-3], torch.full((57,), 1 / 3), atol=1e-4)


def test_slice_profile_is_a_smooth_box_of_unit_area() -> None:
    sources, targets = torch.arange(200) * 0.5, torch.tensor([50.0])
    weights = slice_profile(sources, targets, fine_mm=0.5, thickness_mm=6.0)[0]
    assert float(weights.sum()) == pytest.approx(1, abs=1e-5)
    wide = sources[weights >= 0.5 * weights.max()]
    assert float(wide[-1] - wide[0]) == pytest.approx(6.0, abs=0.6)  # the thickness is the full width at half maximum
    flat = weights[(sources - 50).abs() < 1]
    assert float(flat.min() / flat.max()) > 0.97  # unlike a Gaussian
    assert float(weights[(sources - 50).abs() > 7].max()) < 1e-4


def test_noise_is_rician_in_the_air_and_as_strong_as_asked() -> None:
    clean = render_head(head(), "PD", 2, **CLEAN).as_tensor()
    noisy = render_head(head(), "PD", 2, **(CLEAN | {"noise": 0.05})).as_tensor()
    air = clean < 1e-3
    sigma = 0.05 * 400
    assert float(noisy[air].mean()) == pytest.approx(sigma * math.sqrt(math.pi / 2), rel=0.03)  # Rayleigh
    bright = clean > 10 * sigma
    assert float((noisy - clean)[bright].std()) == pytest.approx(sigma, rel=0.05)


def test_noise_of_ct_is_symmetric() -> None:
    clean = render_head(head(), "CT", 2, **CLEAN).as_tensor()
    noisy = render_head(head(), "CT", 2, **(CLEAN | {"noise": 0.05})).as_tensor()
    error = (noisy - clean)[clean > -900]
    assert float(error.std()) == pytest.approx(5.0, rel=0.05)
    assert abs(float(error.mean())) < 0.1


def test_coil_bias_is_smooth_and_grows_towards_the_scalp() -> None:
    field = coil_sensitivity(grid_axes((32, 32, 32), (6.0,) * 3), np.random.default_rng(0))
    assert float(field[16, 16, 16]) == pytest.approx(1)
    assert float(field[1, 16, 20]) > 1.1
    assert float(field[16, 1, 20]) > 1.1
    steps = torch.cat([torch.diff(field.log(), dim=d).abs().flatten() for d in range(3)])
    assert float(steps.max()) < 0.15


def test_bias_exponent_strengthens_the_bias_of_the_same_coil() -> None:
    flat, once, twice = (render_head(head(), "PD", 3, **(CLEAN | {"bias": b})).as_tensor() for b in (0.0, 1.0, 2.0))
    inside = flat > 50
    ratio = (once / flat)[inside]
    assert float(ratio.std()) > 0.05
    assert torch.allclose((twice / flat)[inside], ratio**2, rtol=1e-3)


def test_means_vary_smoothly_inside_a_tissue_within_the_bound() -> None:
    image = render_head(head(), "T1", 1, thickness_mm=1.5, **(CLEAN | {"variation": 0.08})).as_tensor()
    flat = render_head(head(), "T1", 1, thickness_mm=1.5, **CLEAN).as_tensor()
    inside = flat > 50
    ratio = (image / flat)[inside]
    assert 0.01 < float(ratio.std()) < 0.06
    assert float((ratio - 1).abs().max()) <= 0.081


def test_shifted_means_change_each_tissue_by_its_own_factor_on_both_sides_alike() -> None:
    plain = render_head(head(), "T1", 6, **CLEAN)
    shifted = render_head(head(), "T1", 6, means_shift=0.3, **CLEAN)
    factors = {v: median(shifted, v) / median(plain, v) for v in (2, 41, 8, 16, 3, 42)}
    assert factors[2] == pytest.approx(factors[41], rel=0.02)
    assert max(abs(f - 1) for f in factors.values()) > 0.05
    assert all(0.65 < f < 1.35 for f in factors.values())
    assert abs(factors[2] - factors[8]) > 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"contrast": "SWI"}, "contrast must be one of"),
        ({"seed": -2}, "seed must be a whole number"),
        ({"spacing_mm": (3.0, 3.0)}, "spacing_mm must be one number or three, each at least 1.5"),
        ({"spacing_mm": 1.0}, "spacing_mm must be one number or three, each at least 1.5"),
        ({"thickness_mm": float("inf")}, "thickness_mm must be"),
        ({"noise": -0.1}, "noise must be finite and at least 0"),
        ({"bias": float("nan")}, "bias must be finite"),
    ],
)
def test_bad_arguments_are_refused_with_what_was_wanted(options: dict, message: str) -> None:
    arguments = {"contrast": "T1", "seed": 0} | options
    with pytest.raises(ValueError, match=message):
        render_head(head(), **arguments)
