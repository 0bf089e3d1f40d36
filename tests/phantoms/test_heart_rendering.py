from __future__ import annotations

import pytest
import torch

from medsynth_ext.phantoms.heart_parameters import HeartParameters
from medsynth_ext.phantoms.heart_rendering import MR_SEQUENCES, SENSORS, CTSensor, render_heart_ct, render_heart_mr
from medsynth_ext.phantoms.whole_heart import whole_heart_phantom


@pytest.fixture(scope="module")
def adult():
    return whole_heart_phantom(0, 0, size=40, parameters=HeartParameters())


def core(mask):
    """Voxels whose neighbours are in the mask as well."""
    return torch.nn.functional.max_pool3d((~mask)[None].float(), 3, 1, 1)[0] == 0


@pytest.fixture(scope="module")
def scans(adult):
    return {name: [render_heart_ct(adult, name, seed=seed)[0] for seed in (0, 1)] for name in SENSORS}


@pytest.mark.parametrize("name", list(SENSORS))
def test_noise_in_the_heart_is_the_sensors(adult, scans, name):
    first, second = scans[name]
    clean = CTSensor(SENSORS[name].left_hu, SENSORS[name].right_hu, 0.0, SENSORS[name].blur_voxels)
    assert torch.equal(render_heart_ct(adult, clean, seed=0), render_heart_ct(adult, clean, seed=1))
    rings = 0 if SENSORS[name].rings == 0 else 0.6  # gain errors differ between the seeds as well
    noise = float((first - second)[adult.labels > 0].std()) / 2**0.5
    assert noise == pytest.approx(SENSORS[name].noise_hu, rel=0.1 + rings)


@pytest.mark.parametrize("name", ["A", "B"])
def test_blood_has_the_hounsfield_units_of_the_sensor(adult, scans, name):
    aorta, left = core(adult.labels == 6), SENSORS[name].left_hu
    # A voxel of 5 mm and the blur leave little of the vessel untouched.
    assert float(scans[name][0][aorta].mean()) == pytest.approx(left, rel=0.15)


def test_reconstruction_has_the_levels_of_the_anatomy(adult):
    """Far from edges the whole chain of projection and reconstruction returns what was painted."""
    sensor = CTSensor(400.0, 300.0, 0.0, 0.0)
    from medsynth_ext.phantoms.heart_rendering import ct_table

    truth = adult.paint(ct_table(sensor))
    image = render_heart_ct(adult, sensor)[0]
    inner = core(adult.labels > 0)
    inner[:, :, :4] = False
    difference = (image - truth)[inner]
    assert abs(float(difference.mean())) < 12
    assert float(torch.corrcoef(torch.stack([image.flatten(), truth.flatten()]))[0, 1]) > 0.98


def test_few_views_make_streaks(adult):
    many = render_heart_ct(adult, CTSensor(250.0, 250.0, 0.0, 0.0, views=240))
    few = render_heart_ct(adult, CTSensor(250.0, 250.0, 0.0, 0.0, views=24))
    outside = torch.zeros_like(adult.labels, dtype=torch.bool)
    outside[:, -4:, :] = True  # air before the chest
    assert float(few[0][outside].std()) > 2 * float(many[0][outside].std())


def test_gain_errors_make_rings(adult):
    plain = render_heart_ct(adult, CTSensor(300.0, 300.0, 0.0, 0.0))
    ringed = render_heart_ct(adult, CTSensor(300.0, 300.0, 0.0, 0.0, rings=0.006))
    rings = (ringed - plain)[0, :, :, 20]
    x = torch.arange(40) - 19.5
    radius = torch.hypot(x[:, None], x[None]).round().long()
    inside = radius < 18
    counts = torch.bincount(radius[inside]).float()
    means = torch.bincount(radius[inside], rings[inside].float()) / counts
    within = (rings - means[radius.clamp_max(17)])[inside]
    assert float(within.var()) < 0.5 * float(rings[inside].var())  # most of it depends on the radius alone


@pytest.mark.parametrize("name", list(MR_SEQUENCES))
def test_blood_is_bright_and_muscle_dark_in_mr(adult, name):
    image = render_heart_mr(adult, name, bias=0.0)[0]
    levels = [float(image[adult.labels == part].mean()) for part in (1, 2, 3)]
    assert levels[0] > 1.4 * levels[1]
    assert levels[2] > 1.1 * levels[1]
    assert float(image.min()) >= 0


def test_mr_follows_its_seed(adult):
    assert torch.equal(render_heart_mr(adult, seed=1), render_heart_mr(adult, seed=1))
    assert not torch.equal(render_heart_mr(adult, seed=1), render_heart_mr(adult, seed=2))


def test_coils_make_the_chest_brighter_than_the_depth(adult):
    flat = render_heart_mr(adult, bias=0.0, noise=0.0, seed=4)
    coils = render_heart_mr(adult, bias=1.0, noise=0.0, seed=4)
    body = flat[0] > 50
    ratio = (coils[0] / flat[0].clamp_min(1))[body]
    assert float(ratio.std() / ratio.mean()) > 0.1


def test_images_lie_on_the_phantoms_grid(adult, scans):
    assert torch.equal(render_heart_mr(adult).affine, adult.affine)
    assert tuple(render_heart_mr(adult).shape) == (1, 40, 40, 40)
    assert torch.equal(render_heart_ct(adult, "A").affine, adult.affine)


def test_wrong_names_are_refused(adult):
    with pytest.raises(ValueError, match="sensor must be one of A, B, C, got 'D'"):
        render_heart_ct(adult, "D")
    with pytest.raises(ValueError, match="sequence must be one of bssfp, angiography, got 'T1'"):
        render_heart_mr(adult, "T1")
