"""Radiographs of hands and pelves: landmarks, exposure, bad input."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from medsynth_ext.phantoms.bone_tubes import BoneTube, lay_bone
from medsynth_ext.phantoms.hand_xray import hand_xray
from medsynth_ext.phantoms.hand_xray_anatomy import draw_hand
from medsynth_ext.phantoms.painter import Grid, Painter
from medsynth_ext.phantoms.pelvis_xray import pelvis_xray
from medsynth_ext.phantoms.pelvis_xray_anatomy import draw_pelvis
from medsynth_ext.phantoms.xray_film import Exposure, Film, XrayPhantom, develop, rotation

PHANTOMS = pytest.mark.parametrize(("phantom", "count"), [(hand_xray, 25), (pelvis_xray, 16)])


@PHANTOMS
def test_a_seed_gives_one_radiograph_and_another_seed_another(phantom: Callable[..., XrayPhantom], count: int) -> None:
    first, again, other = phantom(4, size=64), phantom(4, size=64), phantom(5, size=64)
    assert first.image.shape == (1, 64, 64)
    assert first.image.dtype == first.points.dtype == torch.float32
    assert first.points.shape == (count, 2)
    assert first.visible.shape == (count,)
    assert len(set(first.names)) == count
    assert 0 <= first.image.min() < first.image.max() <= 1
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.points, again.points)
    assert not torch.equal(first.image, other.image)
    assert (first.points - other.points).abs().max() > 1


@PHANTOMS
def test_the_anatomy_does_not_depend_on_the_size(phantom: Callable[..., XrayPhantom], count: int) -> None:
    small, large = phantom(7, size=48, nuisances=False), phantom(7, size=96, nuisances=False)
    assert torch.allclose((small.points + 0.5) * 2, large.points + 0.5, atol=1e-3)
    assert small.spacing_mm == pytest.approx(2 * large.spacing_mm)
    shrunk = torch.nn.functional.avg_pool2d(large.image, 2)
    assert np.corrcoef(small.image.flatten(), shrunk.flatten())[0, 1] > 0.98


@PHANTOMS
def test_almost_all_landmarks_are_seen_and_lie_on_the_body(phantom: Callable[..., XrayPhantom], count: int) -> None:
    seen, inside = [], []
    for seed in range(12):
        case = phantom(seed, size=64, nuisances=False)
        seen.append(case.visible.float().mean())
        index = case.points[case.visible].round().long().clamp(0, 63)
        inside.append((case.image[0, index[:, 0], index[:, 1]] > 0.1).float().mean())
    assert np.mean(seen) > 0.97
    assert np.mean(inside) > 0.97


@pytest.mark.parametrize("film", [Film(65, 130.0), Film(65, 130.0, source_detector_mm=800.0, behind_mm=100.0)])
def test_points_are_projected_where_the_projector_shows_them(film: Film) -> None:
    grid = Grid.centred(70, 2.0)
    for place in ([0.0, 0.0, 0.0], [31.0, -20.0, 12.5], [-22.0, 30.0, -41.0]):
        painter = Painter(grid, {"air": 0.0}, background="air")
        lay_bone(painter, BoneTube.of([(*place, 5.0), (*place[:2], place[2] + 1e-3, 5.0)]), 1.0)
        shadow = film.line_integrals(painter.values, grid)
        axis = torch.arange(65.0)
        found = torch.stack([(shadow.sum(1) * axis).sum(), (shadow.sum(0) * axis).sum()]) / shadow.sum()
        assert torch.allclose(found.double(), torch.from_numpy(film.project(np.array([place]))[0]), atol=0.06)
    up, right = film.project(np.array([[0.0, 0.0, 10.0], [10.0, 0.0, 0.0]]))
    assert up[0] < 32 < right[1]


def test_line_integrals_of_a_bone_are_those_of_its_cortex_and_marrow() -> None:
    grid = Grid.centred(64, 0.5)
    painter = Painter(grid, {"air": 0.0}, background="air")
    lay_bone(painter, BoneTube.of([(0, 0, -40.0, 8.0), (0, 0, 40.0, 8.0)], 2.0), 0.06, 0.03)
    middle = Film(9, 4.5).line_integrals(painter.values, grid)[4, 4]
    assert middle.item() == pytest.approx(4 * 0.06 + 12 * 0.03, rel=0.01)


def test_hand_grows_from_the_wrist_to_the_tips_and_the_thumb_points_right() -> None:
    for seed in range(10):
        hand = hand_xray(seed, size=64, nuisances=False)
        place = dict(zip(hand.names, hand.points.tolist(), strict=True))
        for finger in ("index", "middle", "ring", "little"):
            joints = [place[f"{finger}_{j}"][0] for j in ("carpometacarpal", "metacarpophalangeal", "tip")]
            assert joints == sorted(joints, reverse=True)
        assert place["thumb_tip"][1] > place["middle_tip"][1] > place["little_tip"][1]
        assert place["wrist"][0] > max(place[name][0] for name in hand.names if name.endswith("_tip"))


def test_sizes_and_poses_of_hands_keep_their_ranges() -> None:
    spans = [np.ptp(draw_hand(np.random.default_rng(seed), implant_prob=0.0).places[:, 2]) for seed in range(60)]
    assert 120 < min(spans) < 155
    assert 200 < max(spans) < 250


def test_pelves_are_nearly_symmetric_unless_one_side_is_broken() -> None:
    def unevenness(fracture_prob: float) -> np.ndarray:
        found = []
        for seed in range(20):
            rng = np.random.default_rng(seed)
            left, right = draw_pelvis(rng, fracture_prob=fracture_prob, implant_prob=0.0).landmarks.reshape(2, 8, 3)
            pelvic = slice(0, 5)  # the thighs are free to turn
            lengths = [np.linalg.norm(s[pelvic, None] - s[None, pelvic], axis=2) for s in (left, right)]
            found.append(max(np.abs(lengths[0] - lengths[1]).max(), abs(left[5, 2] - right[5, 2]) / 2))
        return np.array(found)

    whole, broken = unevenness(0.0), unevenness(1.0)
    assert np.median(whole) < 8
    assert np.median(broken) > 1.3 * np.median(whole)


def test_a_fracture_changes_one_side_only() -> None:
    for seed in range(12):
        whole, broken = (
            draw_pelvis(np.random.default_rng(seed), fracture_prob=p, implant_prob=0.0).landmarks.reshape(2, 8, 3)
            for p in (0.0, 1.0)
        )
        moved = np.linalg.norm(whole - broken, axis=2).max(1) > 1e-6
        assert moved.sum() == 1


def test_the_patients_left_is_on_the_right_of_the_film() -> None:
    pelvis = pelvis_xray(3, size=48, nuisances=False)
    assert (pelvis.points[:8, 1] > pelvis.points[8:, 1]).all()
    assert pelvis.names[0] == "left_anterior_superior_iliac_spine"


def test_collimation_marker_polarity_and_noise_happen() -> None:
    integrals = torch.zeros(64, 64)
    integrals[20:44, 20:44] = 1.0
    points = np.array([[24.0, 24.0], [40.0, 40.0]])
    options = {"film": Film(64, 128.0), "exposure": Exposure(photons=(1e4, 1e5), flatten=(0.0, 0.3), letter="R")}
    shown = [develop(integrals, points, seed, **options) for seed in range(60)]
    images = torch.stack([image[0] for image, _ in shown])
    assert all(visible.all() for _, visible in shown)
    dark = (images == 0).float().mean((1, 2)) > 0.15
    assert 0.2 < dark.float().mean() < 0.7  # a blackened border
    bright = images[:, 22:42, 22:42].mean((1, 2)) > images[:, 46:48, 22:42].mean((1, 2))
    assert 0.75 < bright.float().mean() < 0.98  # a few are inverted
    corners = images[:, [6, -6]][:, :, [6, -6]].flatten(1)
    assert corners.std(1).max() > 0.05
    noise = images[:, 25:40, 25:40].std((1, 2))
    few, many = noise.quantile(torch.tensor([0.1, 0.9]))
    assert 0 < few < 0.5 * many


def test_side_markers_lie_on_the_side_that_they_name() -> None:
    film = Film(96, 150.0)
    exposures = [Exposure(photons=(1e6, 1e6), flatten=(0.0, 0.0), letter=letter) for letter in "LR"]
    more = torch.zeros(96, 96)
    for seed in range(30):
        left, right = (
            develop(torch.full((96, 96), 0.5), np.array([[48.0, 48.0]]), seed, film=film, exposure=exposure)[0][0]
            for exposure in exposures
        )
        more += left - right  # all else is the same
    assert more[:, 72:].max() > 2
    assert more[:, :24].min() < -2


def test_points_outside_the_picture_are_not_visible() -> None:
    points = np.array([[-0.6, 5.0], [-0.4, 5.0], [63.4, 5.0], [63.6, 5.0]])
    options = {"film": Film(64, 128.0), "exposure": Exposure(photons=(1e4, 1e5), flatten=(0.0, 0.3), letter="L")}
    _, visible = develop(torch.zeros(64, 64), points, 0, nuisances=False, **options)
    assert visible.tolist() == [False, True, True, False]


def test_rotation_is_right_handed() -> None:
    assert np.allclose(rotation(z_deg=90) @ [1, 0, 0], [0, 1, 0])
    assert np.allclose(rotation(x_deg=90) @ [0, 1, 0], [0, 0, 1])
    assert np.allclose(rotation(y_deg=90) @ [0, 0, 1], [1, 0, 0])


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="size must be at least 8 pixels, got 4"):
        hand_xray(0, size=4)
    with pytest.raises(ValueError, match=r"rows must be \(K, 4\) with at least two rows x, y, z, radius, got \(1, 4\)"):
        BoneTube.of([(0, 0, 0, 1)])
