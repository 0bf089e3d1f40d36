"""The simulator's study: what is measured, how claims are judged, and a run at the smallest size."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

from medsynth_ext.claims import Results
from medsynth_ext.claims.__main__ import main
from medsynth_ext.methods.fedsim.claims import FedSimStudy
from medsynth_ext.methods.fedsim.claims.settings import ARMS, POPULATIONS

BUNDLE = Path(__file__).parents[2] / "bundles" / "fedsim_cardiac_ct_synthesis"
MODEL = BUNDLE / "models/shape_model.npz"


def sizes() -> dict[str, Any]:
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / "claims.json"))
    return parser.get_parsed_content("sizes")


@pytest.mark.parametrize("scale", ["tiny", "small", "medium"])
def test_every_scale_of_the_config_makes_a_study_whose_claims_have_their_arms(scale: str) -> None:
    study = pickle.loads(pickle.dumps(FedSimStudy(sizes()[scale], shape_model=MODEL)))
    names = {arm.name for arm in study.arms()}
    assert names == {*ARMS, "upper", "samples", "gradients"}
    assert {name for claim in study.claims() for name in claim.arms} == names
    single = ["1", "2", "3", "6", "7", "8", "9", "10"]
    assert [claim.id for claim in study.claims()] == (single if scale == "small" else [*single[:3], "5", *single[3:]])
    for arm in study.arms():
        json.dumps(arm.settings, allow_nan=False)


def test_populations_are_different() -> None:
    assert len(set(POPULATIONS.values())) == len(POPULATIONS)


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ValueError, match="look at stepz"):
        FedSimStudy({**sizes()["tiny"], "stepz": 3}, shape_model=MODEL)
    with pytest.raises(ValueError, match="split must be one of"):
        FedSimStudy(sizes()["tiny"], shape_model=MODEL, split="train")


def cell(dice: float, **more: float) -> dict[str, Any]:
    return {"A-2": {"dice": dice, "elsewhere": {"B": dice - 5}, **more}}


def test_claims_are_judged_by_the_gaps_between_the_arms() -> None:
    claims = {claim.id: claim for claim in FedSimStudy(sizes()["tiny"], shape_model=MODEL).claims()}
    dice = {"lower": 85.0, "fix_mat": 86.0, "pre": 87.0, "full": 87.4, "unfrozen": 86.0}
    dice |= {"random_shape": 67.0, "alpha": 69.0, "poisson": 76.0, "learned_shape": 79.0}
    good = Results({name: {0: cell(value)} for name, value in dice.items()})
    assert all(claims[name].outcome(good).held for name in ("1", "2", "3", "5", "10"))
    worse = Results({name: {0: cell(100 - value)} for name, value in dice.items()})
    assert not any(claims[name].outcome(worse).held for name in ("1", "2", "3", "10"))
    nothing = Results({name: {0: cell(value - 60)} for name, value in dice.items()})
    assert "precondition" in claims["1"].outcome(nothing).reason
    copies = {"label_distance": 0.04, "label_distance_inside": 0.1, "volume_distance": 0.2}
    samples = Results(
        {"samples": {0: cell(0, **copies, volume_distance_inside=0.2, shape_iou=0.9, material_error=0.1)}}
    )
    assert not claims["6"].outcome(samples).held
    assert claims["8"].outcome(samples).held
    upper = Results({"upper": {0: cell(90.0, dice_on_full=80.0, dice_on_fixed=82.0, dice_on_alpha=70.0)}})
    assert claims["7"].outcome(upper).held
    timing = {"cosine": 0.99, "fd_s": 1.0, "surface_s": 0.02, "simulator_gradient_error": 1e-12}
    assert claims["9"].outcome(Results({"gradients": {0: timing}})).held
    assert not claims["9"].outcome(Results({"gradients": {0: timing | {"surface_s": 0.2}}})).held


def test_the_bundle_runs_at_the_smallest_size_and_writes_its_report(tmp_path: Path) -> None:
    code = main([str(BUNDLE), "--scale", "tiny", "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")])
    assert code == 0
    record = json.loads((tmp_path / "out" / "claims.json").read_text())["runs"]["tiny"]
    assert set(record["arms"]) == {*ARMS, "upper", "samples", "gradients"}
    for claim in record["claims"]:
        assert claim["held"] or claim["reason"]
    assert (tmp_path / "out" / "claims_tiny.png").is_file()
