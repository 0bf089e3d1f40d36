"""SynthSeg's study on hearts: how the claim is judged, and a run at the smallest size."""

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
from medsynth_ext.methods.synthseg.claims import HeartStudy
from medsynth_ext.methods.synthseg.claims.heart_settings import ARMS, SPLITS, TEST_SETS

BUNDLE = Path(__file__).parents[2] / "bundles" / "synthseg_heart_segmentation"


def sizes() -> dict[str, Any]:
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / "claims.json"))
    return parser.get_parsed_content("sizes")


@pytest.mark.parametrize("scale", ["tiny", "small", "medium"])
def test_every_scale_of_the_config_makes_a_study_whose_claim_has_its_arms(scale: str) -> None:
    study = pickle.loads(pickle.dumps(HeartStudy(sizes()[scale])))
    assert [arm.name for arm in study.arms()] == list(ARMS)
    assert [claim.id for claim in study.claims()] == ["10"]
    assert set(study.claims()[0].arms) == set(ARMS)
    for arm in study.arms():
        json.dumps(arm.settings, allow_nan=False)


def test_people_of_training_validation_and_test_are_different() -> None:
    largest = sizes()["medium"]
    ends = sorted((first, first + max(largest["train_people"], largest["test_people"])) for first in SPLITS.values())
    assert all(end <= start for (_, end), (start, _) in pairwise(ends))


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ValueError, match="look at stepz"):
        HeartStudy({**sizes()["tiny"], "stepz": 3})
    with pytest.raises(ValueError, match="split must be one of"):
        HeartStudy(sizes()["tiny"], split="train")


def figures(mr: float, ct: float) -> dict[str, Any]:
    return {"dice": {"MR": [mr, mr], "CT": [ct, ct], "left atrium": [mr]}}


@pytest.mark.parametrize(
    ("ours", "other", "held"),
    [
        ((0.80, 0.78), (0.70, 0.70), [True, True, True]),
        ((0.80, 0.76), (0.70, 0.70), [False, True, True]),  # CT is four points below MR
        ((0.80, 0.78), (0.78, 0.76), [True, False, True]),  # two points of gain
        ((0.50, 0.50), (0.20, 0.20), [True, True, False]),  # has learned too little to judge
    ],
)
def test_claim_is_judged_by_its_three_conditions(ours, other, held) -> None:
    claim = HeartStudy(sizes()["tiny"]).claims()[0]
    results = Results({"sub_labels": {0: figures(*ours)}, "one_background": {0: figures(*other)}})
    outcome = claim.outcome(results)
    assert [condition.held for condition in outcome.conditions] == held
    assert outcome.held == all(held)


def test_the_bundle_runs_at_the_smallest_size_and_writes_its_report(tmp_path: Path) -> None:
    code = main([str(BUNDLE), "--scale", "tiny", "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")])
    assert code == 0
    record = json.loads((tmp_path / "out" / "claims.json").read_text())["runs"]["tiny"]
    assert set(record["arms"]) == set(ARMS)
    assert [claim["claim"] for claim in record["claims"]] == ["10"]
    assert record["claims"][0]["held"] or record["claims"][0]["reason"]
    assert (tmp_path / "out" / "claims_tiny.png").is_file()
    maps = torch.load(next((tmp_path / "work").rglob("train_*.pt")), weights_only=True)
    assert len(maps["sub_labels"]) == 2 * len(maps["one_background"])
    assert torch.equal(maps["sub_labels"][::2] % 1000, maps["one_background"])
    for name, test in TEST_SETS.items():
        scans = torch.load(next((tmp_path / "work").rglob(f"{name.replace(' ', '_')}_*.pt")), weights_only=True)
        assert 0 <= float(scans["image"].min()) < float(scans["image"].max()) <= 1, test
