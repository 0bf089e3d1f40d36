"""Few-shot DAG's study: what is measured, how claims are judged, and a run at the smallest size."""

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
from medsynth_ext.methods.dag.claims import DAGStudy
from medsynth_ext.methods.dag.claims.settings import ARMS, REAL_ARMS, SPLITS

BUNDLE = Path(__file__).parents[2] / "bundles" / "fewshot_dag_landmark_localization"


def sizes() -> dict[str, Any]:
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / "claims.json"))
    return parser.get_parsed_content("sizes")


@pytest.mark.parametrize("scale", ["tiny", "small", "medium"])
def test_every_scale_of_the_config_makes_a_study_whose_claims_have_their_arms(scale: str) -> None:
    study = pickle.loads(pickle.dumps(DAGStudy(sizes()[scale])))
    names = {arm.name for arm in study.arms()}
    assert names == set(ARMS)
    assert {name for claim in study.claims() for name in claim.arms} == names
    assert [claim.id for claim in study.claims()] == list("1234567")
    for arm in study.arms():
        json.dumps(arm.settings, allow_nan=False)


def test_hands_of_all_parts_are_different() -> None:
    largest = sizes()["medium"]
    most = max(*(largest[key] for key in ("unlabelled", "test")), 50 * (max(largest["seeds"]) + 1))
    assert all(b - a >= most for a, b in pairwise(sorted(SPLITS.values())))


def test_a_real_chest_adds_its_arms_and_its_claim() -> None:
    study = DAGStudy(sizes()["tiny"], chest_ct="ct.nii.gz", chest_ct_labels="labels.nii.gz")
    assert {arm.name for arm in study.arms()} == {*ARMS, *REAL_ARMS}
    assert [claim.id for claim in study.claims()] == list("12345678")
    wanted = {"chest-labelled", "chest-unlabelled", "chest-validation", "chest-test", "chest-stage1-10-0"}
    assert set(study.items([arm for arm in study.arms() if arm.name in REAL_ARMS])) == wanted
    found = {"chest_dag_10": {0: figures(2.0)}, "chest_teacher_js_10": {0: figures(1.8)}}
    assert study.claims()[-1].outcome(Results(found)).held
    with pytest.raises(ValueError, match="chest_ct and chest_ct_labels belong together"):
        DAGStudy(sizes()["tiny"], chest_ct="ct.nii.gz")


def test_wrong_settings_are_named() -> None:
    settings = sizes()["tiny"]
    settings["stepz"] = 3
    with pytest.raises(ValueError, match="look at stepz"):
        DAGStudy(settings)
    with pytest.raises(ValueError, match="split must be one of"):
        DAGStudy(sizes()["tiny"], split="train")


def figures(mean: float, failure: float = 0.1, share: float = 0.03, refused: bool = False) -> dict[str, Any]:
    return {"mean_px": mean, "failure_rate": failure, "validation_share": share, "refused": refused}


def test_claims_are_judged_by_ratios_between_the_arms() -> None:
    claims = {claim.id: claim for claim in DAGStudy(sizes()["tiny"]).claims()}
    paper = {
        **{name: {0: figures(10.0)} for name in ARMS},
        "dag_5": {0: figures(20.0)},
        "dag_10": {0: figures(11.5, 0.2)},
        "teacher_5": {0: figures(18.0)},
        "teacher_js_5": {0: figures(15.0)},
        "dag_50": {0: figures(10.1)},
        "heatmap_10": {0: figures(30.0)},
        "pi_10": {0: figures(17.0)},
        "dag_1": {0: figures(60.0, share=0.3, refused=True)},
    }
    assert [name for name, claim in claims.items() if not claim.outcome(Results(paper)).held] == []
    same = {**paper, "pi_10": {0: figures(10.0)}}  # neither training found anything better than where it began
    assert [name for name, claim in claims.items() if not claim.outcome(Results(same)).held] == ["6"]
    other = {
        **paper,
        "dag_10": {0: figures(10.0)},
        "teacher_js_5": {0: figures(19.0)},
        "teacher_js_50": {0: figures(5.0)},
        "heatmap_10": {0: figures(9.0)},
        "pi_10": {0: figures(9.0)},
        "dag_1": {0: figures(60.0, share=0.03)},
    }
    assert [name for name, claim in claims.items() if claim.outcome(Results(other)).held] == []


def test_stage_1_that_did_not_converge_is_not_gone_on_with(tmp_path) -> None:
    study = DAGStudy({**sizes()["tiny"], "max_error": 1e-6})
    arms = {arm.name: arm for arm in study.arms()}
    quiet = lambda fraction, text="": None  # noqa: E731
    found = {}
    for name in ("dag_5", "teacher_5"):
        (tmp_path / name).mkdir()
        found[name] = study.run(arms[name], 0, folder=tmp_path / name, data=tmp_path, progress=quiet)
        assert found[name]["refused"]
    assert found["teacher_5"]["mean_px"] == found["dag_5"]["mean_px"]


@pytest.mark.slow
def test_claims_run_at_the_smallest_size(tmp_path) -> None:
    threads = torch.get_num_threads()
    try:
        status = main(
            [str(BUNDLE), "--scale", "tiny", "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
        )
    finally:
        torch.set_num_threads(threads)
    assert status in (0, None)
    record = json.loads((tmp_path / "out/claims.json").read_text())["runs"]["tiny"]
    assert set(record["arms"]) == set(ARMS)
    assert all(arm["figures"]["0"]["points"] > 0 for arm in record["arms"].values())
