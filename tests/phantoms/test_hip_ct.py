"""The hip phantom: a function of its seed, with landmarks that lie on the bone that the picture shows."""

from __future__ import annotations

import pytest
import torch

from medsynth_ext import ops
from medsynth_ext.phantoms.hip_ct import HIP_LANDMARKS, hip_phantom
from medsynth_ext.phantoms.posed_anatomy import PoseRanges

SMALL = {"size": (40, 40, 40), "spacing_mm": 4.0}


@pytest.fixture(scope="module")
def hip():
    return hip_phantom(3, **SMALL)


def test_the_same_seed_gives_the_same_hip_and_another_seed_another(hip):
    again, other = hip_phantom(3, **SMALL), hip_phantom(4, **SMALL)
    assert torch.equal(again.image, hip.image)
    assert torch.equal(again.landmarks_mm, hip.landmarks_mm)
    assert (other.landmarks_mm - hip.landmarks_mm).norm(dim=1).min() > 0.5


def test_intensities_are_hounsfield_units_of_air_soft_tissue_and_bone(hip):
    assert -1024 <= hip.image.min() < -800
    assert hip.image.max() > 700
    assert -60 < hip.image.median() < 80


def test_landmarks_lie_on_the_bone_and_are_as_far_apart_as_in_a_person():
    still = PoseRanges(rotation_deg=0.0, scale=(1.0, 1.0), translation_mm=0.0, deformation_mm=0.0)
    hip = hip_phantom(0, size=(80, 80, 80), spacing_mm=2.0, ranges=still, noise_hu=0.0, blur_mm=(0.4, 0.4))
    voxels = (hip.landmarks_mm - torch.tensor(hip.grid.first_mm).double()) / 2.0
    head, greater, lesser = hip.landmarks_mm
    assert HIP_LANDMARKS == ("head", "greater_trochanter", "lesser_trochanter")
    assert 40 < (head - greater).norm() < 70
    assert 60 < (head - lesser).norm() < 85
    assert greater[0] < head[0]  # of a left hip, to the side
    assert lesser[2] < greater[2]
    assert lesser[0] > greater[0]
    inwards = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, -1.5], [-1.5, 0.0, 0.0]]).double()
    bone = ops.sample_at_points(hip.image[None, None].double(), (voxels + inwards)[None])[0, :, 0]
    assert (bone > 150).all()
    outside = ops.sample_at_points(hip.image[None, None].double(), (voxels[1:] - 2 * inwards[1:])[None])[0, :, 0]
    assert (outside < 150).all()  # the tips are where the bone ends


def test_the_mask_is_the_upper_thigh_bone(hip):
    i, j, k = ((hip.landmarks_mm[0] - torch.tensor(hip.grid.first_mm)) / 4.0).round().long().tolist()
    assert hip.mask[i, j, k] == 1
    assert 60_000 < int(hip.mask.sum()) * 4.0**3 < 180_000  # mm^3
    assert hip.image[hip.mask > 0].median() > 150


def test_a_landmark_outside_of_the_picture_is_refused():
    with pytest.raises(ValueError, match="outside of the field of view"):
        hip_phantom(0, size=(20, 20, 20), spacing_mm=2.0)
