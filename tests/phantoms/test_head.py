"""The head phantom: repeatable, continuous over grids, laid out as a head, and its sliders do what they say."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from medsynth_ext.methods.synthseg.labels import LabelTable
from medsynth_ext.phantoms.head import HeadParameters, HeadPhantom, head_label_table, head_phantom, with_boundary_noise
from medsynth_ext.phantoms.head_parameters import POPULATIONS, draw_head_parameters

AVERAGE = HeadParameters()


@cache
def head(seed: int = 3, population: str | HeadParameters = "young", **options: int) -> HeadPhantom:
    return head_phantom(seed, shape=(48, 48, 48), spacing_mm=4.0, population=population, **options)


def centroid(labels: Tensor, value: int) -> Tensor:
    places = (labels == value).nonzero().float()
    assert len(places) > 0, f"label {value} is missing"
    return places.mean(0)


def test_same_seed_gives_the_same_head_for_any_thread_count() -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = head_phantom(7, shape=(24, 24, 24), spacing_mm=8.0).labels
        torch.set_num_threads(2)
        two = head_phantom(7, shape=(24, 24, 24), spacing_mm=8.0).labels
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(one, two)


def test_other_seed_gives_another_head() -> None:
    a, b = head(3).labels, head(4).labels
    assert (a != b).float().mean() > 0.05


@pytest.mark.parametrize("population", sorted(POPULATIONS))
def test_every_label_of_the_table_and_no_other_occurs(population: str) -> None:
    phantom = head(11, population, lesions=8)
    assert phantom.labels.dtype == torch.int16
    assert phantom.labels.shape == (48, 48, 48)
    assert set(phantom.volumes_mm3) == set(head_label_table()["generation_labels"])


def test_label_table_is_accepted_by_the_method_and_pairs_the_sides(tmp_path) -> None:
    table = head_label_table()
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(table))
    loaded = LabelTable.from_json(path)
    assert loaded.generation_labels[: loaded.n_neutral] == sorted(table["generation_labels"][: table["n_neutral"]])
    assert len(loaded.generation_labels) >= 28
    left = loaded.target_values.index(17)
    assert loaded.target_values[loaded.target_flip[left]] == 53
    assert dict(zip(table["generation_labels"], table["segmentation_labels"], strict=True))[57] == 41


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_structures_lie_where_they_do_in_a_head(seed: int) -> None:
    labels = head(seed).labels
    pairs = {2: 41, 3: 42, 4: 43, 7: 46, 8: 47, 10: 49, 11: 50, 12: 51, 13: 52, 17: 53}
    for left, right in pairs.items():
        a, b = centroid(labels, left), centroid(labels, right)
        assert a[0] < b[0] - 3, f"label {left} must lie left of {right}: small indices along the first axis"
        assert (a - b)[1:].abs().max() < 3
    thalamus, caudate, putamen, pallidum = (centroid(labels, v) for v in (10, 11, 12, 13))
    assert putamen[0] < pallidum[0] < thalamus[0]  # from the side towards the middle
    assert caudate[1] > thalamus[1]
    assert caudate[2] > putamen[2]
    hippocampus, cerebellum, cortex = (centroid(labels, v) for v in (17, 8, 3))
    assert hippocampus[2] < thalamus[2] - 3
    assert cerebellum[2] < hippocampus[2]
    assert cerebellum[1] < centroid(labels, 16)[1] < centroid(labels, 506)[1]
    assert cerebellum[2] < cortex[2]
    assert centroid(labels, 506)[1] > cortex[1] + 11
    assert centroid(labels, 512)[2] < centroid(labels, 16)[2] < centroid(labels, 14)[2]


def test_brain_is_enclosed_by_fluid_bone_and_skin() -> None:
    labels = head(0).labels.numpy()
    table = head_label_table()
    predicted = [v for v, t in zip(table["generation_labels"], table["segmentation_labels"], strict=True) if t]
    brain = ndimage.binary_dilation(torch.isin(head(0).labels, torch.tensor(predicted)).numpy() & (labels != 24))
    assert not (brain & (labels == 0)).any()
    assert not (brain & (labels == 511)).any()
    fine = head(0).labels_at((96, 96, 96), 2.0).numpy()[:, :, 68:]  # skin is 2.5 mm: coarser grids step over it
    touching_air = ndimage.binary_dilation(fine == 0) & (fine > 0)
    assert (fine[touching_air] == 511).mean() > 0.95


def test_volumes_are_those_of_an_adult() -> None:
    volumes = head(5, AVERAGE).volumes_mm3  # ranges in ml around adult means
    ranges = {2: (150, 280), 3: (170, 280), 4: (4, 18), 8: (40, 75), 10: (4, 9), 11: (2.3, 5), 12: (3, 6.5)}
    ranges |= {13: (1, 2.5), 14: (0.6, 2.5), 16: (15, 30), 17: (2, 5), 506: (8, 17)}
    for value, (low, high) in ranges.items():
        assert low <= volumes[value] / 1000 <= high, (value, volumes[value])


def test_cortex_is_folded_and_as_thick_as_asked() -> None:
    phantom = head(5, replace(AVERAGE, deformation_mm=0.0, shape_jitter=0.0))
    labels = phantom.labels_at((128, 128, 128), 1.5).numpy()
    cortex = (labels == 3) | (labels == 42)
    white = (labels == 2) | (labels == 41)
    # White matter's surface over that of a ball of its volume: 1 for a ball, about 3 or more for a folded brain.
    faces = sum(int((white.take(range(1, 128), a) != white.take(range(127), a)).sum()) for a in range(3))
    area = faces * 1.5**2 * 2 / 3  # a voxel surface is 3/2 of the true one on average
    ball = (36 * math.pi) ** (1 / 3) * (white.sum() * 1.5**3) ** (2 / 3)
    assert area / ball > 3
    inner = ndimage.binary_dilation(white) & cortex
    depth = ndimage.distance_transform_edt(~white, sampling=1.5)
    assert inner.any()
    assert 1.5 < depth[cortex].mean() < 3.5
    thin = head(5, replace(AVERAGE, deformation_mm=0.0, shape_jitter=0.0, cortex_thickness_mm=2.0))
    assert thin.volumes_mm3[3] < 0.8 * phantom.volumes_mm3[3]


def test_finer_grid_samples_the_same_anatomy() -> None:
    phantom = head(2)
    odd = phantom.labels_at((49, 47, 45), 4.0)
    # A grid three times as fine has the coarse centres among its own: voxel i is voxel 3 i + 1.
    fine = phantom.labels_at((144, 144, 144), 4 / 3)
    assert (fine[1::3, 1::3, 1::3] != phantom.labels).float().mean() < 1e-4
    assert odd.shape == (49, 47, 45)
    volume = float((fine == 17).sum()) * (4 / 3) ** 3
    assert abs(volume / phantom.volumes_mm3[17] - 1) < 0.1


def test_affine_places_the_grid_centre_at_the_same_point_for_every_grid() -> None:
    centres = []
    for n, spacing in ((64, 3.0), (48, 4.0), (31, 2.5)):
        affine = head_phantom(0, shape=(n, n, n), spacing_mm=spacing).affine
        centres.append(affine @ torch.tensor([(n - 1) / 2] * 3 + [1.0], dtype=torch.float64))
    assert torch.allclose(centres[0], centres[1])
    assert torch.allclose(centres[0], centres[2])


def test_ventricle_slider_scales_the_ventricles() -> None:
    small, large = (head(6, replace(AVERAGE, ventricle_scale=s)).volumes_mm3 for s in (0.6, 3.0))
    for value in (4, 43):
        assert 3.5 < large[value] / small[value] < 7  # 5 asked; the nuclei beside take some of it
    for value in (10, 11, 12, 17, 50, 51, 53):
        assert abs(large[value] / small[value] - 1) < 0.2, value


def test_hippocampus_slider_scales_the_hippocampi_alone() -> None:
    small, large = (head(6, replace(AVERAGE, hippocampus_scale=s)).volumes_mm3 for s in (0.7, 1.4))
    for value in (17, 53):
        assert 1.8 < large[value] / small[value] < 2.6
    for value in (10, 12, 16, 47):
        assert abs(large[value] / small[value] - 1) < 0.01


def test_asymmetry_slider_makes_one_side_larger() -> None:
    volumes = head(6, replace(AVERAGE, hippocampus_asymmetry=0.3)).volumes_mm3
    equal = head(6, AVERAGE).volumes_mm3
    assert volumes[17] / volumes[53] > 1.2 * equal[17] / equal[53]


def test_atrophy_widens_the_fluid_around_the_brain() -> None:
    tight, wide = (head(6, replace(AVERAGE, atrophy=a)).volumes_mm3 for a in (0.0, 1.0))
    assert wide[24] > 1.5 * tight[24]
    assert wide[3] < tight[3]


@pytest.mark.parametrize("count", [0, 5, 20])
def test_lesions_are_as_many_as_asked_and_lie_in_white_matter(count: int) -> None:
    without, phantom = head(8, AVERAGE, lesions=0), head(8, AVERAGE, lesions=count)
    assert len(phantom.anatomy.lesions) == count
    a, b = without.labels, phantom.labels
    changed = a != b
    assert bool(changed.any()) == (count > 0)
    assert set(a[changed].tolist()) <= {2, 41}
    assert set(b[changed].tolist()) <= {25, 57}
    assert bool(torch.equal(b == 25, changed & (a == 2)))


def test_deformation_bends_without_tearing() -> None:
    phantom = head(9, replace(AVERAGE, deformation_mm=4.0))
    steps = [torch.diff(phantom.lattice, dim=d + 1)[:, :30, :30, :30] / 8.0 for d in range(3)]
    jacobian = torch.stack(steps, dim=-1).permute(1, 2, 3, 0, 4) + torch.eye(3)
    determinant = torch.linalg.det(jacobian)
    assert determinant.min() > 0
    assert determinant.max() > 1.05


def test_old_heads_have_larger_ventricles_and_thinner_cortex() -> None:
    young = [draw_head_parameters(np.random.default_rng(s), "young") for s in range(40)]
    old = [draw_head_parameters(np.random.default_rng(s), "old") for s in range(40)]
    assert max(p.ventricle_scale for p in young) <= 1.2
    assert sum(p.ventricle_scale for p in old) > 1.7 * sum(p.ventricle_scale for p in young)
    assert sum(p.cortex_thickness_mm for p in old) < 0.92 * sum(p.cortex_thickness_mm for p in young)
    assert max(p.lesions for p in old) > 10


def test_boundary_noise_changes_a_few_border_voxels_to_a_neighbours_label() -> None:
    labels = head(0).labels
    noisy = with_boundary_noise(labels, seed=1, fraction=0.5)
    assert torch.equal(noisy, with_boundary_noise(labels, seed=1, fraction=0.5))
    changed = (noisy != labels).numpy()
    neighbours = torch.stack([labels.roll(s, d) for d in range(3) for s in (1, -1)])
    assert 0.05 < changed.mean() < 0.3
    assert (neighbours == noisy).any(0)[torch.from_numpy(changed)].all()
    assert torch.equal(with_boundary_noise(labels, seed=1, fraction=0.0), labels)
    two_percent = (with_boundary_noise(labels, seed=1) != labels).float().mean()
    assert 0 < two_percent < 0.02


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed must be a whole number from 0, got -1"),
        ({"seed": 1.5}, "seed must be"),
        ({"seed": 0, "shape": (64, 64)}, "shape must be three whole numbers"),
        ({"seed": 0, "shape": (64, 0, 64)}, "shape must be three whole numbers"),
        ({"seed": 0, "spacing_mm": 0.0}, "spacing_mm must be positive"),
        ({"seed": 0, "spacing_mm": float("nan")}, "spacing_mm must be positive"),
        ({"seed": 0, "population": "middle-aged"}, "population must be one of"),
        ({"seed": 0, "lesions": 21}, "lesions must be in"),
    ],
)
def test_bad_arguments_are_refused_with_what_was_wanted(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        head_phantom(**arguments)


def test_sliders_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"ventricle_scale must be in \[0.3, 4.0\], got 9"):
        HeadParameters(ventricle_scale=9)
    with pytest.raises(ValueError, match="aspect must be three factors"):
        HeadParameters(aspect=(1.0, 1.0))
