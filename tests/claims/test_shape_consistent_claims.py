"""The study of shape-consistent translation: arms, judging, and a run at the smallest size."""

from __future__ import annotations

import json
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from medsynth_ext.claims import Results
from medsynth_ext.claims.__main__ import main
from medsynth_ext.methods.shape_consistent.claims import ShapeConsistentStudy
from medsynth_ext.methods.shape_consistent.claims.scores import high_frequency_share
from medsynth_ext.methods.shape_consistent.claims.settings import FIRST_PERSON, joint_arms

BUNDLE = Path(__file__).parents[2] / "bundles" / "shape_consistent_ct_mr_translation"


def sizes() -> dict[str, Any]:
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / "claims.json"))
    return parser.get_parsed_content("sizes")


@pytest.mark.parametrize("scale", ["tiny", "small", "medium"])
def test_every_scale_of_the_config_makes_a_study_whose_claims_have_their_arms(scale: str) -> None:
    study = pickle.loads(pickle.dumps(ShapeConsistentStudy(sizes()[scale])))
    names = {arm.name for arm in study.arms()}
    assert {name for claim in study.claims() for name in claim.arms} <= names
    assert [claim.id for claim in study.claims()] == list("12345689" if scale == "small" else "123456789")
    for arm in study.arms():
        json.dumps(arm.settings, allow_nan=False)


def test_people_of_training_validation_and_test_are_different() -> None:
    largest = sizes()["medium"]
    ends = sorted((first, first + max(largest["train"], largest["test"])) for first in FIRST_PERSON.values())
    assert all(end <= start for (_, end), (start, _) in pairwise(ends))


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ValueError, match="look at stepz"):
        ShapeConsistentStudy(sizes()["tiny"] | {"stepz": 3})
    with pytest.raises(ValueError, match="split must be one of"):
        ShapeConsistentStudy(sizes()["tiny"], split="train")


def translation(score: float, moved: float, error: float) -> dict[str, Any]:
    figures = {"s_score": score, "displacement_mm": moved, "mae": error}
    return {"from_ct": figures, "from_mr": figures, "reference_dice": {"ct": [0.8], "mr": [0.8]}}


def dice(ct: list[float], mr: list[float]) -> dict[str, Any]:
    return {"ct": ct, "mr": mr}


def test_claims_are_judged_by_the_gaps_between_the_arms() -> None:
    settings = sizes()["small"] | {"half_sources": True}
    claims = {claim.id: claim for claim in ShapeConsistentStudy(settings).claims()}
    good, bad = translation(0.7, 2.0, 0.10), translation(0.66, 4.0, 0.11)
    ours = Results({"with": {0: good}, "without": {0: bad}})
    swapped = Results({"with": {0: bad}, "without": {0: good}})
    for name in ("1", "2"):
        assert claims[name].outcome(ours).held
        assert not claims[name].outcome(swapped).held
    blind = Results({"with": {0: good}, "without": {0: bad | {"reference_dice": {"ct": [0.8], "mr": [0.1]}}}})
    assert "precondition" in claims["1"].outcome(blind).reason
    figures = {
        "real_unet": {0: dice([0.5, 0.3], [0.5, 0.3])},
        "ada_unet": {0: dice([0.49, 0.3], [0.6, 0.3])},
        "joint_unet_ct": {0: dice([0.7, 0.5], [0, 0])},
        "joint_unet_mr": {0: dice([0, 0], [0.7, 0.5])},
        "half_ct": {0: dice([0.6, 0.5], [0, 0])},
        "half_mr": {0: dice([0, 0], [0.6, 0.5])},
        "with": {0: dice([0.8, 0.8], [0.8, 0.8])},
        "real_all": {0: dice([0.75, 0.75], [0.75, 0.75])},
    }
    assert all(claims[name].outcome(Results(figures)).held for name in ("3", "4", "6", "7", "8"))
    worse = figures | {"joint_unet_mr": {0: dice([0, 0], [0.5, 0.2])}, "half_mr": {0: dice([0, 0], [0.3, 0.3])}}
    assert not any(claims[name].outcome(Results(worse)).held for name in ("3", "6", "7", "8"))
    energy = {"without": {0: {"spectrum": 1.2}}, "transposed": {0: {"spectrum": 1.6}}}
    assert claims["9"].outcome(Results(energy)).held


def test_a_checkerboard_has_its_energy_in_the_top_octave_and_a_slope_has_not() -> None:
    at = torch.arange(16)
    board = ((at[:, None, None] + at[:, None] + at) % 2).float()
    wave = torch.cos(2 * torch.pi * at / 16)[:, None, None].expand(16, 16, 16)
    assert high_frequency_share(board[None, None]) == pytest.approx(1.0)
    assert high_frequency_share(wave[None, None]) < 1e-6


def test_scarce_labels_are_those_of_one_domain_and_half_of_the_other_is_left_out() -> None:
    study = ShapeConsistentStudy(sizes()["small"])
    arms = joint_arms(("unet",))
    assert study._limits(arms["joint_unet_ct"]) == {"ct": 3, "mr": None}
    assert study._limits(arms["real_unet"]) == {"ct": 3, "mr": 3}
    assert study._limits(arms["with"]) == {"ct": None, "mr": None}


def test_the_bundle_runs_at_the_smallest_size_and_writes_its_report(tmp_path: Path) -> None:
    code = main([str(BUNDLE), "--scale", "tiny", "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")])
    assert code == 0
    record = json.loads((tmp_path / "out" / "claims.json").read_text())["runs"]["tiny"]
    assert set(record["arms"]) == set(joint_arms(("unet", "psp")))
    for claim in record["claims"]:
        assert claim["held"] or claim["reason"]
    assert (tmp_path / "out" / "claims_tiny.png").is_file()
