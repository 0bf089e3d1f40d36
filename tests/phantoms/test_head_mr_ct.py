"""The head in MR and CT: repeatable, aligned, with the contrasts and the traps that it is made for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medsynth_ext.data.modality import guess_modality
from medsynth_ext.phantoms import HeadPair, head_mr_ct
from medsynth_ext.phantoms.head_anatomy import FAT
from medsynth_ext.phantoms.head_mr_ct import COMPACT, T1_SIGNAL, with_air_cells
from medsynth_ext.phantoms.rendering import HOUNSFIELD

SHAPE, SPACING_MM = (48, 48, 48), 4.0


@pytest.fixture(scope="module")
def pair() -> HeadPair:
    return head_mr_ct(3, shape=SHAPE, spacing_mm=SPACING_MM)


def test_every_tissue_has_a_signal_and_a_density() -> None:
    assert set(T1_SIGNAL) == set(HOUNSFIELD)


def test_same_seed_gives_the_same_scans_and_another_seed_others() -> None:
    one, two, other = (head_mr_ct(seed, shape=(16, 16, 16), spacing_mm=12.0) for seed in (5, 5, 6))
    assert torch.equal(one.mr, two.mr)
    assert torch.equal(one.ct, two.ct)
    assert (one.ct - other.ct).abs().mean() > 20


def test_both_scans_lie_on_the_phantoms_grid_and_look_like_what_they_are(pair: HeadPair) -> None:
    for image in (pair.mr, pair.ct):
        assert image.shape == (1, *SHAPE)
        assert torch.equal(image.affine, pair.phantom.affine)
    assert guess_modality(pair.ct.numpy()).modality == "CT"
    assert guess_modality(pair.mr.numpy()).modality == "MR"


def test_bone_and_air_are_dark_in_mr_and_far_apart_in_ct(pair: HeadPair) -> None:
    mr, ct = pair.mr[0].as_tensor(), pair.ct[0].as_tensor()
    bone, air, fat = ct > 900, ct < -900, pair.phantom.tissues_at(SHAPE, SPACING_MM) == FAT
    assert bone.sum() > 100
    dark = mr[bone].median() / mr[fat].median(), mr[air].median() / mr[fat].median()
    assert dark[0] < 0.55  # bone is thin at 4 mm: partial volume brightens it
    assert dark[1] < 0.2
    assert -130 < ct[fat].median() < 50


def test_air_cells_are_drilled_into_the_skulls_base_alone() -> None:
    fine = head_mr_ct(3, shape=(64, 64, 64), spacing_mm=3.0)
    before = fine.phantom.fine_tissues
    after = with_air_cells(fine.phantom, np.random.default_rng([3, 301]))
    changed = (before != after).nonzero().float()
    assert len(changed) > 200
    assert set(after[before != after].tolist()) <= {0, COMPACT}
    middle = (torch.tensor(before.shape) - 1) / 2
    mm = (changed - middle) * 1.5 + torch.tensor([0.0, 8.0, -16.0])
    assert (mm[:, 0].abs() > 30).all()
    assert (mm[:, 2] < -18).all()
    cells = (after == 0) & (before != 0)
    assert 10 < int(cells.sum()) * 1.5**3 < 20 * 4 / 3 * 3.15 * 4**3


def test_misregistration_moves_the_ct_by_what_was_asked_and_not_the_mr(pair: HeadPair) -> None:
    moved = head_mr_ct(3, shape=SHAPE, spacing_mm=SPACING_MM, misregistration_voxels=1.0)
    assert torch.equal(moved.mr, pair.mr)
    slight = head_mr_ct(3, shape=SHAPE, spacing_mm=SPACING_MM, misregistration_voxels=0.25)
    far, near = ((image.ct - pair.ct).abs().mean() for image in (moved, slight))
    assert 2 * near < far < 6 * near
    with pytest.raises(ValueError, match="misregistration_voxels must be finite and at least 0, got -1"):
        head_mr_ct(0, misregistration_voxels=-1)
