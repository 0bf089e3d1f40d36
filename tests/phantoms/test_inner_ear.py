"""The temporal bone phantom: a function of its seed, with landmarks that lie where the picture shows them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medsynth_ext import ops
from medsynth_ext.phantoms.inner_ear import inner_ear_phantom
from medsynth_ext.phantoms.inner_ear_shapes import cochlea_depth, inner_ear_landmarks, spiral_nodes
from medsynth_ext.phantoms.painter import Grid
from medsynth_ext.phantoms.posed_anatomy import PosedAnatomy, PoseRanges, annotate
from medsynth_ext.phantoms.shapes import tube_depth

SMALL = {"size": (40, 40, 40), "spacing_mm": 1.0, "ranges": PoseRanges(translation_mm=3.0)}


@pytest.fixture(scope="module")
def ear():
    return inner_ear_phantom(3, **SMALL)


def test_the_same_seed_gives_the_same_ear_and_another_seed_another(ear):
    again, other = inner_ear_phantom(3, **SMALL), inner_ear_phantom(4, **SMALL)
    assert torch.equal(again.image, ear.image)
    assert torch.equal(again.landmarks_mm, ear.landmarks_mm)
    assert not torch.equal(other.image, ear.image)
    assert (other.landmarks_mm - ear.landmarks_mm).norm(dim=1).min() > 0.5


def test_intensities_are_hounsfield_units_of_air_soft_tissue_and_bone(ear):
    assert ear.image.dtype == torch.float32
    assert -1024 <= ear.image.min() < -600
    assert ear.image.max() > 1300
    assert 0.2 < (ear.image > 700).float().mean() < 0.9


def test_the_average_ear_has_the_size_of_a_cochlea():
    nodes = torch.from_numpy(spiral_nodes())
    turns = nodes[:, :3] - nodes[:, :3].mean(0)
    assert 5.5 < 2 * turns.norm(dim=1).max() < 8.5
    centre, apex, window = inner_ear_landmarks()
    assert (apex - centre).norm() < 2.6
    assert 3.0 < (window - centre).norm() < 5.0
    depth = tube_depth(*apex[:, None].float(), nodes=nodes.tolist())
    assert abs(depth.item()) < 1e-4  # on the wall of the duct's end


def test_landmarks_are_carried_to_where_the_voxels_show_them():
    grid = Grid.centred(40, 1.0)
    posed = PosedAnatomy(grid, np.random.default_rng(5), PoseRanges(translation_mm=5.0, deformation_mm=1.5))
    landmarks = inner_ear_landmarks()
    world = posed.carry(landmarks)
    voxels = world - torch.tensor(grid.first_mm, dtype=torch.float64)
    back = ops.sample_at_points(posed.points()[None].double(), voxels[None])[0]
    # Between voxels the map is linear but for the displacement's kinks, which it shares with the picture.
    torch.testing.assert_close(back, landmarks, rtol=0, atol=1e-3)


def test_the_mask_surrounds_the_centre(ear):
    voxels = torch.linalg.inv(ear.affine) @ torch.cat([ear.landmarks_mm, torch.ones(3, 1)], 1).T
    i, j, k = voxels[:3, 0].round().long().tolist()
    assert ear.mask[i, j, k] == 1
    places = ear.mask.nonzero().double()
    assert (places.mean(0) - voxels[:3, 0]).norm() < 1.5
    assert 40 < ear.mask.sum() < 200  # mm^3


def test_cochlea_contains_its_duct():
    g = torch.Generator().manual_seed(0)
    points = torch.rand(3, 4000, generator=g) * 10 - 5
    duct, whole = cochlea_depth(*points)
    assert (whole >= duct).all()
    assert ((whole > 0) & (duct < 0)).any()


def test_people_set_landmarks_with_the_error_asked_for():
    truth = torch.zeros(2000, 3)
    first, second = (annotate(truth, [0, k], std_mm=0.35) for k in (0, 1))
    assert first.std().item() == pytest.approx(0.35, rel=0.05)
    assert not torch.equal(first, second)
    assert torch.equal(first, annotate(truth, [0, 0], std_mm=0.35))


def test_a_landmark_outside_of_the_picture_is_refused():
    with pytest.raises(ValueError, match="outside of the field of view"):
        inner_ear_phantom(0, size=(12, 12, 12), spacing_mm=0.5, ranges=PoseRanges(translation_mm=10.0))
