"""The pelvis in MR, CT and surrogate: contrasts, errors, couch, and the same patient on every grid."""

from __future__ import annotations

import pytest
import torch

from medsynth_ext.phantoms.pelvis_ct_mr import (
    BULK_HU,
    STRUCTURES,
    PelvisPatient,
    pelvis_ct,
    pelvis_mr,
    pelvis_patient,
    pelvis_surrogate,
)
from medsynth_ext.phantoms.pelvis_ct_mr_anatomy import TISSUES

GRID = {"size": 96, "spacing_mm": 4.27, "slices": 5, "slice_mm": 16.0}


@pytest.fixture(scope="module")
def patient() -> PelvisPatient:
    return pelvis_patient(3, **GRID)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def ct(patient: PelvisPatient) -> torch.Tensor:
    return pelvis_ct(patient, views=120)


def pure(patient: PelvisPatient, tissue: str) -> torch.Tensor:
    """Pixels that hold one tissue and have neighbours of the same."""
    other = "fat" if tissue == "air" else "air"
    share = patient.shares({**dict.fromkeys(TISSUES, 0), other: 0, tissue: 1})[:, 1]
    return -torch.nn.functional.max_pool2d(-share[:, None], 3, stride=1, padding=1)[:, 0] > 0.999


def test_the_same_seed_is_the_same_patient_on_every_grid_and_another_seed_another(patient: PelvisPatient) -> None:
    again = pelvis_patient(3, **GRID)  # type: ignore[arg-type]
    assert torch.equal(again.fine_tissues, patient.fine_tissues)
    assert torch.equal(pelvis_mr(again), pelvis_mr(patient))
    coarse = pelvis_patient(3, **{**GRID, "size": 48, "spacing_mm": 8.54})  # type: ignore[arg-type]
    smaller = torch.nn.functional.avg_pool2d((patient.structures > 0)[:, None].float(), 2)[:, 0] > 0.5
    assert (smaller == (coarse.structures > 0)).float().mean() > 0.98
    other = pelvis_patient(4, **GRID)  # type: ignore[arg-type]
    assert (other.fine_tissues != patient.fine_tissues).float().mean() > 0.05


def test_every_structure_is_there_and_left_and_right_are_alike(patient: PelvisPatient) -> None:
    assert patient.structures.unique().tolist() == list(range(len(STRUCTURES) + 1))
    bone = patient.structures == 2
    halves = bone[..., :48].sum(), bone[..., 48:].sum()
    assert 0.7 < halves[0] / halves[1] < 1.4


def test_mr_inverts_the_contrast_of_ct(patient: PelvisPatient, ct: torch.Tensor) -> None:
    mr = pelvis_mr(patient, bias=0.0)
    fat, muscle, bladder = (pure(patient, name) for name in ("fat", "muscle", "bladder"))
    assert mr[fat].mean() > 2 * mr[muscle].mean() > 2 * mr[bladder].mean()
    assert ct[fat].mean() < ct[bladder].mean() < ct[muscle].mean()
    assert mr[pure(patient, "air")].mean() < 0.1 * mr[fat].mean()


def test_ct_has_the_hu_of_its_tissues_and_noise(patient: PelvisPatient, ct: torch.Tensor) -> None:
    for tissue, low, high in (("fat", -125, -75), ("muscle", 30, 75), ("bladder", -20, 30)):
        values = ct[pure(patient, tissue)]
        assert low < values.mean() < high, tissue
        assert values.std() > 4, tissue
    assert -1010 < ct[:, :10].mean() < -990
    few = pelvis_ct(patient, views=120, photons=1e5)
    bladder = pure(patient, "bladder")
    assert few[bladder].std() > 1.5 * ct[bladder].std()


def test_a_couch_lies_below_the_back_and_only_there(patient: PelvisPatient, ct: torch.Tensor) -> None:
    without = pelvis_ct(patient, couch=False, views=120)
    outside = pure(patient, "air")
    assert (without[outside] > -900).float().mean() < 0.001
    couch = (ct > -700) & outside
    back = (patient.structures > 0).any(0).any(1).nonzero().max()
    rows = couch.any(0).any(1).nonzero()[:, 0]
    assert len(rows) > 3
    assert rows.min() > 0.6 * back  # its sides may curve up
    assert couch.sum((1, 2)).min() > 20


def test_the_surrogate_has_five_steps_and_no_gas_and_bones_that_stray(patient: PelvisPatient) -> None:
    gassy = next(p for p in (pelvis_patient(i, **GRID) for i in range(20)) if pure(p, "gas").any())  # type: ignore[arg-type]
    still = pelvis_surrogate(gassy, breathing_mm=0.0)
    assert set(still.unique().tolist()) == set(BULK_HU.values())
    assert (still[pure(gassy, "gas")] == BULK_HU["water"]).all()
    true_bone = gassy.shares({**dict.fromkeys(TISSUES, 0), "spongy": 1, "compact": 1})[:, 1] > 0.5
    found = torch.isin(still, torch.tensor([BULK_HU["spongy"], BULK_HU["compact"]]))
    overlap = 2 * (found & true_bone).sum() / (found.sum() + true_bone.sum())
    assert 0.6 < overlap < 0.98
    grown = torch.nn.functional.max_pool2d(true_bone[:, None].float(), 5, stride=1, padding=2)[:, 0] > 0
    assert not (found & ~grown).any()  # by no more than two pixels, averaging included


def test_breathing_smears_the_front_and_not_the_back(patient: PelvisPatient) -> None:
    still, smeared = (pelvis_surrogate(patient, breathing_mm=mm) for mm in (0.0, 13.0))
    changed = (still != smeared).any(0).any(1).nonzero()[:, 0]
    rows = (patient.structures > 0).any(0).any(1).nonzero()[:, 0]
    assert len(changed)
    assert changed.max() < (rows.min() + rows.max()) / 2
