"""Principal axes, rigid step, demons, and the way of the landmarks there and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medsynth_ext import ops
from medsynth_ext.handlers.weights import WeightsError
from medsynth_ext.methods.oneshot.alignment import Alignment, axes_candidates, best_candidate, rigid_refinement
from medsynth_ext.methods.oneshot.cubes import rotation_about_axes, rotation_degrees, sample_cube
from medsynth_ext.methods.oneshot.demons import demons_force, log_demons
from medsynth_ext.methods.oneshot.localisation import Localiser
from medsynth_ext.methods.oneshot.reference import Reference, make_reference
from medsynth_ext.methods.oneshot.transfer import LandmarkTransfer, RegistrationSettings

EYE = torch.eye(3, dtype=torch.float64)


def test_a_cube_shows_the_volume_at_its_place():
    volume = torch.arange(6.0**3).reshape(1, 1, 6, 6, 6)
    cube = sample_cube(volume, torch.tensor([2.5, 2.5, 2.5]), EYE, 4)
    assert torch.equal(cube, volume[..., 1:5, 1:5, 1:5])
    turn = rotation_about_axes([0.0, 0.0, np.pi / 2])  # first axis to second
    quarter = sample_cube(volume, torch.tensor([2.5, 2.5, 2.5]), turn, 6)
    torch.testing.assert_close(quarter[0, 0], volume[0, 0].rot90(-1, (0, 1)).contiguous(), rtol=0, atol=1e-3)


def test_one_candidate_undoes_the_turn_and_all_are_rotations(turned):
    covariance = torch.diag(torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64))
    candidates = axes_candidates(covariance, turned @ covariance @ turned.T)
    assert len(candidates) == 4
    for candidate in candidates:
        torch.testing.assert_close(candidate @ candidate.T, EYE)
        assert torch.linalg.det(candidate) == pytest.approx(1.0)
    assert min(rotation_degrees(candidate @ turned) for candidate in candidates) < 1e-3


def test_axes_that_cannot_be_told_apart_bring_the_identity():
    nearly = torch.diag(torch.tensor([1.0, 1.05, 3.0], dtype=torch.float64))
    candidates = axes_candidates(nearly, nearly)
    assert len(candidates) == 5
    assert torch.equal(candidates[0], EYE)


def test_the_candidate_that_looks_like_the_reference_wins(structure, reference, turned):
    for turn in (turned, rotation_about_axes([0.1, 2.9, 0.2])):
        centre = torch.tensor([20.0, 19.0, 18.0], dtype=torch.float64)
        image, mask, _ = structure(rotation=turn, centre=centre)
        places = mask[0].nonzero().double()
        candidates = axes_candidates(reference.covariance(), places.T.cov(correction=0))
        weight = reference.weight(8.0)
        fixed = reference.image[None, None]
        found, refined = best_candidate(image[None], places.mean(0), candidates, fixed, weight)
        assert rotation_degrees(found.linear @ turn.T) < 6
        assert refined is found
        limited, _ = best_candidate(image[None], places.mean(0), candidates, fixed, weight, max_rotation_deg=60)
        assert rotation_degrees(limited.linear) <= 60.001


def test_the_rigid_step_finds_what_is_left_of_a_turn_and_a_shift(structure, reference):
    turn = rotation_about_axes([0.1, -0.08, 0.12])
    image, _, landmarks = structure(rotation=turn)
    start = Alignment(torch.full((3,), 19.5, dtype=torch.float64) + 0.8, EYE)
    found = rigid_refinement(image[None], start, reference.image[None, None], reference.weight(8.0), iterations=25)
    assert rotation_degrees(found.linear @ turn.T) < 0.5
    moved = found.to_target(reference.landmarks, reference.size)
    assert (moved - landmarks).norm(dim=1).max() < 0.1


def test_the_force_points_from_the_moving_to_the_fixed_edge_and_is_bounded():
    x = torch.linspace(0, 1, 32).reshape(1, 1, 32)
    fixed = x.clone()
    force = demons_force(fixed, (x - 0.1), max_step=0.5)  # moving is darker: look further up the slope
    assert (force[..., 2:-2] > 0).all()
    assert force.abs().max() <= 0.5 + 1e-6
    assert not demons_force(fixed, fixed + 5e-4, max_step=0.5).any()


def test_demons_recover_a_smooth_deformation_and_do_not_fold(structure):
    image, _, landmarks = structure(size=32)
    g = torch.Generator().manual_seed(0)
    velocity = ops.gaussian_blur(torch.randn(1, 3, 32, 32, 32, generator=g) * 60, 6.0)
    moving = ops.warp(image[None], ops.integrate_svf(velocity, inverse=True))
    want = ops.warp_points(landmarks[None], ops.integrate_svf(velocity).double(), direction="forward")[0]
    found = log_demons(image[None], moving)
    flow = ops.integrate_svf(found)
    got = ops.warp_points(landmarks[None], flow.double(), direction="forward")[0]
    before, after = ((p - want).norm(dim=1).mean().item() for p in (landmarks, got))
    assert before > 0.8
    assert after < 0.45 * before
    assert ops.jacobian_determinant(flow).min() > 0
    with pytest.raises(ValueError, match="at least one level"):
        log_demons(image[None], moving, iterations=())


def test_landmarks_reach_a_turned_and_shifted_target_and_come_back(structure, reference, seeing, turned):
    centre = torch.tensor([27.0, 16.0, 23.0], dtype=torch.float64)
    image, _, landmarks = structure(size=44, rotation=turned, centre=centre)
    localiser = Localiser(seeing, size=24, spacing_mm=1.0, reference_volume_mm3=reference.volume_mm3)
    settings = RegistrationSettings(focus_mm=8.0, demons_iterations=(10, 5))
    found = LandmarkTransfer(reference, localiser, settings)(image[None])
    assert (found.landmarks - landmarks).norm(dim=1).max() < 0.4
    assert found.flags == ()
    assert found.correlation[3] > 0.95
    back = found.to_reference(found.landmarks, reference.size)
    torch.testing.assert_close(back, reference.landmarks, rtol=0, atol=0.02)


def test_a_target_without_the_structure_is_flagged(reference, seeing):
    localiser = Localiser(seeing, size=24, spacing_mm=1.0, reference_volume_mm3=reference.volume_mm3)
    found = LandmarkTransfer(reference, localiser)(torch.full((1, 1, 30, 30, 30), 0.2))
    assert found.flags == ("not_found",)
    assert found.landmarks.isnan().all()


def test_the_reference_is_kept_in_a_file(reference, tmp_path):
    path = tmp_path / "reference.npz"
    reference.save(path)
    again = Reference.load(path, spacing_mm=1.0)
    torch.testing.assert_close(again.image, reference.image, rtol=0, atol=1e-3)
    assert torch.equal(again.mask, reference.mask)
    assert torch.equal(again.landmarks, reference.landmarks)
    assert again.names == reference.names
    with pytest.raises(WeightsError, match=r"voxels of 1 mm, wanted 0.5 mm"):
        Reference.load(path, spacing_mm=0.5)
    with pytest.raises(WeightsError, match="does not exist"):
        Reference.load(tmp_path / "other.npz")
    path.write_bytes(b"no reference")
    with pytest.raises(WeightsError, match="is no reference"):
        Reference.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"landmarks": torch.full((3, 3), 200.0)}, "outside of the cube of 24 mm"),
        ({"landmarks": torch.full((3, 3), torch.nan)}, "has no position"),
        ({"landmarks": torch.full((3, 3), 20.0)}, "at the same place"),
        ({"mask": torch.zeros(1, 40, 40, 40)}, "mask is empty"),
    ],
)
def test_annotations_that_make_no_sense_are_named(structure, change, message):
    image, mask, landmarks = structure()
    given = {"image": image, "mask": mask, "landmarks": landmarks} | change
    with pytest.raises(ValueError, match=message):
        make_reference(**given, names=("middle", "side", "top"), size=24, spacing_mm=1.0)
