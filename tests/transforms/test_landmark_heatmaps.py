"""Landmarks to heatmaps and back, through spatial transforms of the image."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Affine,
    Compose,
    Flip,
    Flipd,
    GenerateHeatmap,
    Resize,
    Resized,
    Rotate,
    Rotated,
    Spacing,
)

from medsynth_ext import ops
from medsynth_ext.transforms import (
    HeatmapsToLandmarks,
    HeatmapsToLandmarksd,
    LandmarksToHeatmaps,
    LandmarksToHeatmapsd,
)


def scene(axes):
    """An image of anisotropic voxels off the origin, voxel coordinates well inside, and their world positions."""
    size = (64, 80, 72)[:axes]
    affine = torch.diag(torch.tensor([0.7, 1.3, 0.9, 1.0], dtype=torch.float64))
    affine[:3, 3] = torch.tensor([-40.0, 25.0, 7.0])
    affine[axes:3, :] = 0
    affine[range(axes, 3), range(axes, 3)] = 1
    g = torch.Generator().manual_seed(axes)
    voxels = torch.rand(5, axes, generator=g, dtype=torch.float64) * 20 + torch.tensor(size) / 2 - 10
    world = voxels * affine.diagonal()[:axes] + affine[:axes, 3]
    return MetaTensor(torch.zeros(1, *size), affine=affine), voxels, world


def spatial_transforms(axes):
    turn = 0.4 if axes == 2 else (0.2, -0.3, 0.4)
    mode = "bilinear" if axes == 2 else "trilinear"
    return {
        "flip": Flip(0),
        "rotation": Rotate(turn, keep_size=True, padding_mode="zeros"),
        "resize": Resize((96, 60, 80)[:axes], mode=mode),  # the default, "area", shifts what it shrinks
        "spacing": Spacing((1.0, 1.0, 1.0)[:axes]),
        "affine": Affine(rotate_params=turn, translate_params=(3.0,) * axes, image_only=True),
        "all": Compose([Flip(1), Rotate(turn, keep_size=True), Resize((100, 90, 70)[:axes], mode=mode)]),
    }


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("name", ["flip", "rotation", "resize", "spacing", "affine", "all"])
def test_landmarks_return_to_their_places_within_a_thousandth_of_a_pixel(axes, name):
    image, voxels, world = scene(axes)
    moved = spatial_transforms(axes)[name](image)
    to_heatmaps = LandmarksToHeatmaps(2.0)
    heatmaps = to_heatmaps(world, moved)
    assert heatmaps.shape == (5, *moved.shape[1:])
    for back in (HeatmapsToLandmarks()(heatmaps), to_heatmaps.inverse(heatmaps)):
        at = (back - image.affine[:axes, 3]) / image.affine.diagonal()[:axes]
        assert (at - voxels).abs().max().item() < 1e-3


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("name", ["flip", "rotation", "resize", "affine", "all"])
def test_heatmaps_lie_where_the_transform_has_moved_the_image(axes, name):
    image, voxels, world = scene(axes)
    drawn = LandmarksToHeatmaps(3.0, space="voxel")(voxels[:1], image)
    moved = spatial_transforms(axes)[name](drawn)
    centre = ops.soft_argmax(moved.as_tensor()[None], beta=None)[0]
    found = HeatmapsToLandmarks(space="voxel")(LandmarksToHeatmaps(3.0)(world[:1], moved))
    assert (found - centre).abs().max().item() < 0.02  # what interpolation does to a centre of mass


def test_dictionary_forms_and_their_inverse():
    image, _, world = scene(2)
    spatial = [Flipd("image", 1), Rotated("image", 0.3), Resized("image", (90, 110))]
    pipeline = Compose([*spatial, LandmarksToHeatmapsd("points", "image", 2.0, heatmap_keys="heatmaps")])
    data = pipeline({"image": image, "points": world})
    assert data["heatmaps"].shape == (5, 90, 110)
    found = HeatmapsToLandmarksd("heatmaps", landmark_keys="found")(data)["found"]
    assert (found - world).abs().max().item() < 1e-3
    back = pipeline.inverse(data)
    assert "heatmaps" not in back
    assert back["image"].shape == image.shape
    assert (back["points"] - world).abs().max().item() < 1e-3


def test_landmarks_outside_or_unknown_are_nan_again():
    image, _, world = scene(2)
    world[1] = math.nan
    world[3] = 1e4
    found = HeatmapsToLandmarks()(LandmarksToHeatmaps(2.0)(world, image))
    assert found.isnan().any(1).tolist() == [False, True, False, True, False]


def test_a_landmark_just_outside_does_not_come_back_as_one_on_the_border():
    image = torch.zeros(1, 32, 40)
    points = torch.tensor([[-2.0, 10.0], [-0.6, 10.0], [-0.4, 10.0], [31.4, 39.4], [31.6, 20.0], [16.0, 41.0]])
    heatmaps = LandmarksToHeatmaps(2.0, space="voxel")(points, image)
    found = HeatmapsToLandmarks(space="voxel")(heatmaps)
    assert found.isnan().any(1).tolist() == [True, True, False, False, True, True]
    assert heatmaps[[0, 1, 4, 5]].abs().max().item() == 0.0
    assert (found[2:4] - points[2:4]).abs().max().item() <= 0.5


def test_voxel_points_need_no_affine():
    points = np.array([[3.25, 4.5], [7.0, 2.75]])
    heatmaps = LandmarksToHeatmaps(1.0, space="voxel")(points, torch.zeros(1, 12, 10))
    assert HeatmapsToLandmarks(space="voxel")(heatmaps).numpy() == pytest.approx(points, abs=1e-4)
    with pytest.raises(TypeError, match="heatmaps must be a MetaTensor"):
        HeatmapsToLandmarks()(heatmaps)
    with pytest.raises(TypeError, match="image must be a MetaTensor"):
        LandmarksToHeatmaps(1.0)(points, torch.zeros(1, 12, 10))


def test_heatmaps_at_voxel_centres_resemble_monais():
    points = torch.tensor([[20.0, 30.0], [25.0, 15.0]])
    ours = LandmarksToHeatmaps(3.0, space="voxel")(points, torch.zeros(1, 50, 50))
    theirs = GenerateHeatmap(sigma=3.0, spatial_shape=(50, 50))(points)
    assert (ours - theirs).abs().max().item() < 5e-3  # MONAI integrates over voxels


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LandmarksToHeatmaps(2.0, space="mm"), "space must be one of world, voxel"),
        (lambda: HeatmapsToLandmarks(space="mm"), "space must be one of world, voxel"),
        (lambda: LandmarksToHeatmaps(2.0)(torch.zeros(4, 3), scene(2)[0]), r"landmarks must be \(N, 2\)"),
        (lambda: HeatmapsToLandmarks()(torch.zeros(4)), "heatmaps must be"),
        (lambda: LandmarksToHeatmapsd(["a", "b"], "image", 2.0, heatmap_keys="h"), "heatmap_keys must be as many"),
        (lambda: HeatmapsToLandmarksd("a", landmark_keys=["x", "y"]), "landmark_keys must be as many"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
