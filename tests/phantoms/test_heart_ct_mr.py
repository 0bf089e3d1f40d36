"""Hearts of two domains: disjoint people, different poses, one anatomy in both modalities."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from medsynth_ext.phantoms.heart_ct_mr import HEART_POSES, HEART_REGIONS, HeartPose, heart_subject

SMALL = {"size": 24, "fov_mm": 192.0}


def centre_mm(labels: Tensor, spacing_mm: float) -> Tensor:
    return ((labels > 0).nonzero().double().mean(0) - (labels.shape[0] - 1) / 2) * spacing_mm


def test_a_subject_is_a_function_of_its_numbers() -> None:
    one, same, other = (heart_subject(0, index, **SMALL) for index in (3, 3, 4))
    assert torch.equal(one.labels, same.labels)
    assert torch.equal(one.image("mr"), same.image("mr"))
    assert not torch.equal(one.labels, other.labels)
    assert not torch.equal(one.labels, heart_subject(0, 3, domain="mr", **SMALL).labels)
    assert sorted(one.labels.unique().tolist()) == list(range(len(HEART_REGIONS) + 1))


def test_both_modalities_show_the_labelled_anatomy() -> None:
    subject = heart_subject(0, 2, size=32, fov_mm=192.0)
    ct, mr = subject.image("ct", views=60)[0], subject.image("mr")[0]
    left, muscle = (subject.labels == k for k in (1, 5))
    assert float(ct[left].mean()) > 220 > 200 > float(ct[muscle].mean()) > 40
    assert float(mr[left].mean()) > 1.3 * float(mr[muscle].mean())
    assert ct.shape == mr.shape == subject.labels.shape
    assert torch.equal(subject.image("mr").affine, subject.affine)


def test_a_turn_moves_labels_and_image_alike() -> None:
    still, turned = (
        heart_subject(1, 0, size=32, fov_mm=192.0, pose=HeartPose(shift_std_mm=0, turn_std_deg=0, turn_deg=angle))
        for angle in (0.0, 30.0)
    )
    assert not torch.equal(still.labels, turned.labels)
    # counter-clockwise seen from the head: what lies to the front moves to the left
    front, moved = ((s.labels == 2).nonzero().double().mean(0) - 15.5 for s in (still, turned))
    assert moved[0] < front[0]
    for subject in (still, turned):
        image = subject.image("mr")[0]
        assert float(image[subject.labels == 1].mean()) > 1.3 * float(image[subject.labels == 5].mean())


def test_the_domains_differ_in_place_and_size() -> None:
    hearts = {d: [heart_subject(0, i, domain=d, **SMALL) for i in range(12)] for d in HEART_POSES}
    right = {d: torch.stack([centre_mm(s.labels, 8.0) for s in group]).mean(0)[0] for d, group in hearts.items()}
    size = {d: sum(int((s.labels > 0).sum()) for s in group) for d, group in hearts.items()}
    assert right["ct"] - right["mr"] > 6  # millimetres towards the left
    assert size["mr"] > 1.15 * size["ct"]


def test_wrong_names_are_refused() -> None:
    with pytest.raises(ValueError, match="domain must be one of ct, mr, got 'pet'"):
        heart_subject(0, domain="pet")
    with pytest.raises(ValueError, match="modality must be one of ct, mr, got 'CT'"):
        heart_subject(0, **SMALL).image("CT")
    with pytest.raises(ValueError, match="size must be at least 8 voxels, got 4"):
        heart_subject(0, size=4)
