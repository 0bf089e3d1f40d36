"""The study of frequency-supervised synthesis: its arms, its judging, and one run at the smallest size."""

from __future__ import annotations

import json
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from medsynth_ext.claims import Results
from medsynth_ext.claims.__main__ import main
from medsynth_ext.methods.frequency_supervised.claims import FrequencyStudy
from medsynth_ext.methods.frequency_supervised.claims.settings import ARMS, SPLITS, Settings
from medsynth_ext.methods.frequency_supervised.claims.training import build_network

BUNDLE = Path(__file__).parents[2] / "bundles/frequency_supervised_mr_to_ct"


def sizes() -> dict[str, Any]:
    return json.loads((BUNDLE / "configs/claims.json").read_text())["sizes"]


@pytest.mark.parametrize("scale", ["tiny", "small", "medium"])
def test_every_scale_of_the_config_makes_a_study_whose_claims_have_their_arms(scale: str) -> None:
    study = pickle.loads(pickle.dumps(FrequencyStudy(sizes()[scale])))
    assert {arm.name for arm in study.arms()} == set(ARMS)
    assert {name for claim in study.claims() for name in claim.arms} == set(ARMS)
    assert [claim.id for claim in study.claims()] == list("123456")
    for arm in study.arms():
        json.dumps(arm.settings, allow_nan=False)


def test_limits_are_the_cards() -> None:
    for settings in sizes().values():
        limits = settings["thresholds"]
        assert (limits["gain"], limits["ssim_gain"], limits["tie"], limits["price"]) == (0.03, 0.005, 1.01, 1.02)


def test_people_of_training_validation_and_test_are_different() -> None:
    largest = sizes()["medium"]
    ends = sorted((first, first + max(largest["train_heads"], largest["test_heads"])) for first in SPLITS.values())
    assert all(end <= start for (_, end), (start, _) in pairwise(ends))


def test_arms_differ_in_what_they_say() -> None:
    settings = Settings.from_config(sizes()["small"])
    count = {name: sum(p.numel() for p in build_network(arm, settings).parameters()) for name, arm in ARMS.items()}
    assert count["method"] == count["no_high_loss"] == count["adversarial"]
    assert count["k3"] < count["stacked"] < count["method"]
    assert count["unet"] == count["gan"] < count["boundary"] < count["method"]
    assert count["method"] - count["k3"] == 9 * 8**2 * 10


def test_wrong_settings_are_named() -> None:
    settings = sizes()["tiny"]
    settings["stepz"] = 3
    with pytest.raises(ValueError, match="look at stepz"):
        FrequencyStudy(settings)
    with pytest.raises(ValueError, match="split must be one of"):
        FrequencyStudy(sizes()["tiny"], split="train")


def figures(whole: float, edges: float, flat: float, *, ssim: float, bone: float, ratio: float) -> dict[str, Any]:
    return {
        "mae_hu": {"whole": whole, "edges": edges, "flat": flat},
        "ssim": ssim,
        "dice": {"bone": bone},
        "gradient_ratio": ratio,
        "last_fall": 0.01,
    }


def test_claims_are_judged_by_the_gaps_between_the_arms() -> None:
    claims = {claim.id: claim for claim in FrequencyStudy(sizes()["tiny"]).claims()}
    bare = figures(80, 200, 60, ssim=0.7, bone=0.8, ratio=0.6)
    ours = figures(72, 160, 56, ssim=0.74, bone=0.85, ratio=0.7)
    between = figures(76, 180, 58, ssim=0.72, bone=0.82, ratio=0.65)
    judged = figures(73, 165, 57, ssim=0.74, bone=0.85, ratio=0.9)
    arms = {"unet": bare, "fc_net": bare, "res_net": bare, "boundary": bare, "gan": bare, "stacked": between}
    arms |= {"k3": between, "no_high_loss": between, "method": ours, "fc_net_method": ours, "res_net_method": ours}
    arms["adversarial"] = judged
    good = Results({name: {0: value} for name, value in arms.items()})
    assert [claims[i].outcome(good).held for i in "123456"] == [True] * 6
    swap = {
        id(bare): ours,
        id(ours): bare,
        id(between): between,
        id(judged): figures(99, 9, 9, ssim=0, bone=0, ratio=3),
    }
    bad = Results({name: {0: swap[id(value)]} for name, value in arms.items()})
    assert [claims[i].outcome(bad).held for i in "123456"] == [False] * 6
    unfinished = {**arms, "method": {**ours, "last_fall": 0.2}}
    outcome = claims["1"].outcome(Results({name: {0: value} for name, value in unfinished.items()}))
    assert not outcome.held
    assert "precondition" in outcome.reason


def test_the_bundle_runs_at_the_smallest_size_and_writes_its_report(tmp_path: Path) -> None:
    code = main([str(BUNDLE), "--scale", "tiny", "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")])
    assert code == 0
    record = json.loads((tmp_path / "out" / "claims.json").read_text())["runs"]["tiny"]
    assert set(record["arms"]) == set(ARMS)
    for claim in record["claims"]:
        assert claim["held"] or claim["reason"]
    for arm in record["arms"].values():
        curve = arm["figures"]["0"]["curve_hu"]
        assert len(curve) == sizes()["tiny"]["steps"]
    assert (tmp_path / "out" / "claims_tiny.png").is_file()
