"""The study of suture detection: what is measured, how claims are judged, and a run at the smallest size."""

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
from medsynth_ext.claims.run import run_bundle
from medsynth_ext.data.point_frames import FrameError
from medsynth_ext.methods.suture_heatmap.claims import SutureHeatmapStudy
from medsynth_ext.methods.suture_heatmap.claims.networks import detection_figures
from medsynth_ext.methods.suture_heatmap.claims.settings import ARMS, FIRST_SEEDS, TRANSLATED, Settings
from medsynth_ext.phantoms.endoscopy import endoscopy_recording, write_recordings

BUNDLE = Path(__file__).parents[2] / "bundles" / "adaptor_suture_heatmap_detection"


def sizes() -> dict[str, Any]:
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / "claims.json"))
    return parser.get_parsed_content("sizes")


@pytest.mark.parametrize("scale", ["tiny", "small", "medium"])
def test_every_scale_of_the_config_makes_a_study_whose_claims_have_their_arms(scale: str) -> None:
    study = pickle.loads(pickle.dumps(SutureHeatmapStudy(sizes()[scale], translated="frames")))
    names = {arm.name for arm in study.arms()}
    assert names == {*ARMS, "speed"}
    assert {name for claim in study.claims() for name in claim.arms} == names
    assert [claim.id for claim in study.claims()] == list("1234567")
    alone = SutureHeatmapStudy(sizes()[scale])
    assert "translated" not in {arm.name for arm in alone.arms()}
    assert [claim.id for claim in alone.claims()] == list("124567")
    for arm in study.arms():
        json.dumps(arm.settings, allow_nan=False)


def test_valves_of_training_validation_and_test_are_different() -> None:
    largest = max(
        max(s[k] for k in ("sim_recordings", "intraop_recordings", "test_recordings")) for s in sizes().values()
    )
    ends = sorted((first, first + largest) for first in FIRST_SEEDS.values())
    assert all(a[1] <= b[0] for a, b in pairwise(ends))


def scores(f1: float, sensitivity: float = 0.5, precision: float = 0.5, close: float = 0.2) -> dict[str, float]:
    return {"f1": f1, "sensitivity": sensitivity, "precision": precision, "close_sensitivity": close}


def test_claims_are_judged_by_the_gaps_between_the_arms() -> None:
    claims = {claim.id: claim for claim in SutureHeatmapStudy(sizes()["small"], translated="frames").claims()}
    ours = {"kappa_1": scores(0.5, 0.7, 0.4), "kappa_1.5": scores(0.6)}
    base = {"threshold": scores(0.4, 0.3, 0.8)}
    better = {"kappa_1.5": scores(0.6, close=0.4)}
    sim = {"kappa_1": scores(0.6), "kappa_1.5": scores(0.7)}
    arms = {"method": ours, "baseline": base, "squared": better, "mse": ours, "method_sim": sim, "baseline_sim": base}
    arms |= {"joint": ours, "translated": better | {"kappa_1": scores(0.65)}}
    results = Results({name: {0: figures} for name, figures in arms.items()})
    assert all(claims[name].outcome(results).held for name in "123456")
    worse = {"kappa_1": scores(0.5, 0.2, 0.9), "kappa_1.5": scores(0.42, close=0.5)}
    results = Results({name: {0: figures} for name, figures in {**arms, "method": worse}.items()})
    assert not any(claims[name].outcome(results).held for name in "1245")
    turned = Results({name: {0: figures} for name, figures in {**arms, "method": sim, "method_sim": ours}.items()})
    assert not claims["6"].outcome(turned).held
    assert not claims["3"].outcome(turned).held


def test_a_perfect_map_has_perfect_scores_and_close_labels_are_counted() -> None:
    settings = Settings.from_config({**sizes()["tiny"], "close": 9.0, "sigma": 2.0, "radius": 2.0})
    points = torch.full((1, 6, 2), torch.nan)
    points[0, :3] = torch.tensor([[10.0, 10.0], [10.0, 18.0], [40.0, 60.0]])

    class Perfect(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            from medsynth_ext import ops

            h = ops.render_point_map(points, ~points.isnan().any(-1), x.shape[2:], 2.0)
            return torch.logit(h.clamp(1e-6, 1 - 1e-6))

    frames = {"images": torch.zeros(1, 3, 64, 96, dtype=torch.uint8), "points": points}
    figures = detection_figures(Perfect(), ARMS["method"], settings, frames)
    assert figures["kappa_1.5"]["f1"] == 1.0
    assert figures["kappa_1.5"]["close_labels"] == 2
    assert figures["kappa_1.5"]["close_sensitivity"] == 1.0
    assert set(detection_figures(Perfect(), ARMS["baseline"], settings, frames)) == {"threshold"}


def test_the_bundle_runs_at_the_smallest_size_and_writes_its_report(tmp_path: Path) -> None:
    translated = {"sim": endoscopy_recording(0, domain="sim", frames=2, size=(64, 96))}
    write_recordings(tmp_path / "translated", translated)
    run_bundle(
        BUNDLE,
        scale="tiny",
        out=str(tmp_path / "out"),
        work=str(tmp_path / "work"),
        translated=str(tmp_path / "translated"),
    )
    record = json.loads((tmp_path / "out" / "claims.json").read_text())["runs"]["tiny"]
    assert set(record["arms"]) == {*ARMS, "speed"}
    for claim in record["claims"]:
        assert claim["held"] or claim["reason"]
    assert (tmp_path / "out" / "claims_tiny.png").is_file()


def test_translated_frames_of_another_size_are_named(tmp_path: Path) -> None:
    write_recordings(tmp_path, {"sim": endoscopy_recording(0, domain="sim", frames=1, size=(48, 64))})
    study = SutureHeatmapStudy(sizes()["tiny"], translated=tmp_path)
    with pytest.raises(FrameError, match=r"must have \(64, 96\) rows and columns, got \(48, 64\)"):
        study.prepare(TRANSLATED, data=tmp_path, progress=lambda *_: None)
