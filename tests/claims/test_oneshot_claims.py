"""The study of one-shot landmark detection: what is measured, how claims are judged, and a run at the smallest size."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

from medsynth_ext.claims import Results
from medsynth_ext.claims.__main__ import main
from medsynth_ext.methods.oneshot.anatomies import anatomy
from medsynth_ext.methods.oneshot.claims import OneShotStudy
from medsynth_ext.methods.oneshot.claims.settings import ARMS, BLOCK, SPLITS

BUNDLE = Path(__file__).parents[2] / "bundles" / "oneshot_landmark_detection"


def sizes() -> dict[str, Any]:
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / "claims.json"))
    parser["bundle_root"] = str(BUNDLE)
    return parser.get_parsed_content("sizes")


@pytest.mark.parametrize("scale", ["tiny", "small", "hip_small", "medium"])
def test_every_scale_of_the_config_makes_a_study_whose_claims_have_their_arms(scale: str) -> None:
    study = pickle.loads(pickle.dumps(OneShotStudy(sizes()[scale])))
    names = {arm.name for arm in study.arms()}
    assert names == set(ARMS)
    assert {name for claim in study.claims() for name in claim.arms} == names
    assert [claim.id for claim in study.claims()] == list("123456")
    for arm in study.arms():
        json.dumps(arm.settings, allow_nan=False)


def test_people_of_validation_and_test_are_different() -> None:
    largest = sizes()["medium"]
    reach = BLOCK * (max(largest["seeds"]) + 1)
    assert largest["cases"] < BLOCK
    assert SPLITS["validation"] + reach <= SPLITS["test"]


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ValueError, match="look at stepz"):
        OneShotStudy({**sizes()["tiny"], "stepz": 3})
    with pytest.raises(ValueError, match="belong together"):
        OneShotStudy({**sizes()["tiny"], "reference_person": 3})
    with pytest.raises(ValueError, match="anatomy must be one of inner_ear, hip"):
        anatomy("knee")
    with pytest.raises(ValueError, match="split must be one of"):
        OneShotStudy(sizes()["tiny"], split="train")
    bad = OneShotStudy({**sizes()["tiny"], "registration": {"demon_iterations": [3]}})
    with pytest.raises(ValueError, match="no option 'demon_iterations'"):
        bad.settings.registration_settings()


def results(*, full: float, others: float) -> Results:
    """Every arm but the method has the errors ``others``."""

    def figures(error: float) -> dict[str, Any]:
        return {
            "error_mm": error,
            "annotated_error_mm": error,
            "intra_rater_mm": 0.8,
            "start_distance_mm": 6.0,
            "last_distance_mm": error,
            "within_six": 1.0,
            "flipped": 0.0,
        }

    return Results({name: {0: figures(full if name == "full" else others)} for name in ARMS})


def test_claims_are_judged_by_the_errors_of_the_arms() -> None:
    claims = OneShotStudy(sizes()["tiny"]).claims()
    good = results(full=0.6, others=5.0)
    assert all(claim.outcome(good).held for claim in claims)
    bad = results(full=6.0, others=5.0)
    assert [claim.id for claim in claims if claim.outcome(bad).held] == ["3"]


def test_the_bundle_runs_at_the_smallest_size_and_writes_its_report(tmp_path: Path) -> None:
    code = main([str(BUNDLE), "--scale", "tiny", "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")])
    assert code == 0
    record = json.loads((tmp_path / "out" / "claims.json").read_text())["runs"]["tiny"]
    assert set(record["arms"]) == set(ARMS)
    for claim in record["claims"]:
        assert claim["held"] or claim["reason"]
    assert (tmp_path / "out" / "claims_tiny.png").is_file()
