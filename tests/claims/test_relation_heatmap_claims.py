"""The study of relation heatmaps: what is measured, how claims are judged, and a run at the smallest size."""

from __future__ import annotations

import json
import math
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from medsynth_ext import ops
from medsynth_ext.claims import Results
from medsynth_ext.claims.__main__ import main
from medsynth_ext.methods.relation_heatmap.claims import RelationHeatmapStudy
from medsynth_ext.methods.relation_heatmap.claims.evaluation import close_sensitivity, evaluate
from medsynth_ext.methods.relation_heatmap.claims.frames import FrameSet
from medsynth_ext.methods.relation_heatmap.claims.settings import ARMS, FIRST_SEEDS, RULES, Settings
from medsynth_ext.phantoms.endoscopy import endoscopy_recording

BUNDLE = Path(__file__).parents[2] / "bundles" / "adaptor_relation_heatmap_detection"


def sizes() -> dict[str, Any]:
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / "claims.json"))
    return parser.get_parsed_content("sizes")


def make_study(scale: str = "tiny", **options: Any) -> RelationHeatmapStudy:
    """The config's study, with its rival."""
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / "claims.json"))
    for name, value in {"scale": scale, "device": "cpu", **options}.items():
        parser[name] = value
    return parser.get_parsed_content("study")


@pytest.mark.parametrize("scale", ["tiny", "small", "medium"])
def test_every_scale_of_the_config_makes_a_study_whose_claims_have_their_arms(scale: str) -> None:
    study = pickle.loads(pickle.dumps(make_study(scale)))
    names = {arm.name for arm in study.arms()}
    assert names == {*ARMS, "speed"}
    assert {name for claim in study.claims() for name in claim.arms} == names
    for arm in study.arms():
        json.dumps(arm.settings, allow_nan=False)


def test_valves_of_all_parts_are_different() -> None:
    largest = sizes()["medium"]
    most = max(value for key, value in largest.items() if key.endswith("_recordings"))
    starts = sorted(FIRST_SEEDS.values())
    assert all(start + most <= following for start, following in pairwise(starts))


def test_wrong_settings_are_named() -> None:
    settings, rival = sizes()["tiny"], make_study().rival
    settings["stepz"] = 3
    with pytest.raises(ValueError, match="look at stepz"):
        RelationHeatmapStudy(settings, rival)
    with pytest.raises(ValueError, match="split must be one of"):
        RelationHeatmapStudy(sizes()["tiny"], rival, split="train")


class Oracle(torch.nn.Module):
    """Draws the true map of every frame that it is shown, in order."""

    def __init__(self, points: torch.Tensor) -> None:
        super().__init__()
        self.points = points
        self.place = 0
        self.register_buffer("count_bounds", torch.tensor([0, 3]))
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        points = self.points[self.place : self.place + len(image)]
        self.place = (self.place + len(image)) % len(self.points)
        valid = ~points.isnan().any(-1)
        return ops.render_point_map(points.nan_to_num(), valid, image.shape[2:], 2.5)


def test_a_perfect_network_has_perfect_scores_but_for_the_rules_bounds() -> None:
    points = torch.full((2, 5, 2), math.nan)
    points[0, :4] = torch.tensor([[8.0, 8.0], [8.0, 20.0], [20.0, 40.0], [30.0, 10.0]])
    points[1, :1] = torch.tensor([[20.0, 20.0]])
    frames = FrameSet(torch.zeros(2, 3, 36, 64, dtype=torch.uint8), points, torch.ones(2, dtype=torch.int64))
    settings = Settings.from_config(sizes()["tiny"])
    found = evaluate(Oracle(points), frames, frames, frames, settings)  # type: ignore[arg-type]
    assert set(found["rules"]) == set(RULES)
    assert found["rules"]["score"]["f1"] == 1
    assert found["rules"]["v2"]["false_negative"] == 1  # at most three points
    assert found["rules"]["v2"]["precision"] == 1
    assert found["known_sites"] == found["rules"]["v2"]  # the same frames here


def test_close_labels_are_those_with_a_neighbour() -> None:
    labels = torch.tensor([[[5.0, 5.0], [5.0, 9.0], [30.0, 30.0], [math.nan, math.nan]]], dtype=torch.float64)
    both = labels[:, :2]
    assert close_sensitivity(both, labels, radius=1.0, close=5.0) == 1
    assert close_sensitivity(both[:, :1], labels, radius=1.0, close=5.0) == 0.5
    assert close_sensitivity(labels[:, 2:3], labels, radius=1.0, close=5.0) == 0
    assert close_sensitivity(both, labels, radius=1.0, close=3.0) is None


def test_known_sites_are_other_valves_under_the_endoscopes_of_the_training(tmp_path: Path) -> None:
    study = make_study()
    for item in ("intraop", "known_sites", "test"):
        study.prepare(item, data=tmp_path, progress=lambda fraction, text="": None)
    first, settings = FIRST_SEEDS["known_sites"], study.settings
    wanted = endoscopy_recording(
        first, domain="intraop", frames=settings.frames, size=settings.frame_size, site=FIRST_SEEDS["intraop"]
    )
    (path,) = tmp_path.glob("known_sites-*.pt")
    drawn = torch.load(path, weights_only=True)
    for number, frame in enumerate(wanted):
        assert torch.equal(drawn["images"][number], (frame.image * 255).round().to(torch.uint8))


def figures(f1: float, *, v1: float = 0.4) -> dict[str, Any]:
    v2 = {"f1": f1, "precision": f1 + 0.1, "sensitivity": f1 - 0.1, "close_sensitivity": f1 - 0.2}
    rules = {"v2": v2, "v1": {"f1": v1, "precision": v1 - 0.1, "sensitivity": v1 + 0.2}}
    return {"rules": rules, "known_sites": {"f1": f1 + 0.06}}


def test_claims_are_judged_by_the_differences_between_arms() -> None:
    claims = {claim.id: claim for claim in make_study().claims()}
    values = {"joint": 0.6, "half_weight": 0.58, "surgery_only": 0.5, "collaborative": 0.4, "adversarial": 0.7}
    values |= {"small_sigma": 0.595, "large_sigma": 0.605, "small_window": 0.6}
    suture = {"suture": {0: {"f1": 0.57, "close_sensitivity": 0.39}}}
    results = Results({name: {0: figures(value)} for name, value in values.items()} | suture)
    assert all(claims[name].outcome(results).held for name in "1234567")
    better = Results(dict(results.figures) | {"suture": {0: {"f1": 0.57, "close_sensitivity": 0.41}}})
    assert not claims["6"].outcome(better).held
    near = figures(0.6) | {"known_sites": {"f1": 0.64}}
    assert not claims["7"].outcome(Results({"joint": {0: near}})).held
    swapped = dict(results.figures) | {
        "joint": results.figures["surgery_only"],
        "surgery_only": results.figures["joint"],
    }
    assert not claims["1"].outcome(Results(swapped)).held
    assert not claims["5"].outcome(Results(swapped)).held
    assert claims["3"].outcome(Results(swapped)).held
    better_v1 = Results({"joint": {0: figures(0.6, v1=0.59)}})
    assert not claims["2"].outcome(better_v1).held
    nothing = Results({name: {0: figures(0.1, v1=0.0)} for name in values})
    assert "precondition" in claims["3"].outcome(nothing).reason
    speed = Results({"speed": {0: {"kernel_s": 0.1, "twin_s": 0.9, "different": 0}}})
    assert claims["8"].outcome(speed).held
    assert not claims["8"].outcome(Results({"speed": {0: {"kernel_s": 0.1, "twin_s": 0.9, "different": 1}}})).held


def test_the_bundle_runs_at_the_smallest_size_and_writes_its_report(tmp_path: Path) -> None:
    code = main([str(BUNDLE), "--scale", "tiny", "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")])
    assert code == 0
    record = json.loads((tmp_path / "out" / "claims.json").read_text())["runs"]["tiny"]
    assert set(record["arms"]) == {*ARMS, "speed"}
    for claim in record["claims"]:
        assert claim["held"] or claim["reason"]
    assert (tmp_path / "out" / "claims_tiny.png").is_file()
