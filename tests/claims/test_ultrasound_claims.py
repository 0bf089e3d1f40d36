"""The study of ultrasound style transfer: its arms run, its claims are judged by the card's limits."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from medsynth_ext.claims import Results, run_bundle
from medsynth_ext.methods.ultrasound_style.claims.frames import cached_frames
from medsynth_ext.methods.ultrasound_style.claims.judging import make_claims
from medsynth_ext.methods.ultrasound_style.claims.settings import FIRST_SEEDS

BUNDLE = Path(__file__).resolve().parents[2] / "bundles/ultrasound_variational_style_transfer"
CONFIG = json.loads((BUNDLE / "configs/claims.json").read_text())
LIMITS = CONFIG["sizes"]["small"]["thresholds"]


def dice(value: float) -> dict[str, float]:
    return {"vein": value, "artery": value, "mean": value}


def good() -> dict[str, dict[int, dict]]:
    """Figures with which every claim holds."""
    transfer = {"judge_accuracy": 0.97, "style_moved": 0.8, "dice_before": 0.8, "dice_after": 0.75}
    transfer |= {"prior_distance": 0.05, "reference_distance": 0.1}
    arms = {"vt": (0.9, 0.8), "dt": (0.9, 0.78), "ph": (0.8, 0.7), "target": (0.88, 0.6), "target_aug": (0.9, 0.7)}
    figures = {name: {0: {"24": dice(a), "6": dice(b)}} for name, (a, b) in arms.items()}
    robust = {"original": 0.5, "reference": 0.55, "posterior_mix": 0.6}
    figures |= {f"robust_{name}": {0: {"unobserved": dice(value)}} for name, value in robust.items()}
    return {"transfer": {0: transfer}, **figures}


def held(figures: dict) -> dict[str, bool]:
    return {claim.id: claim.outcome(Results(figures)).held for claim in make_claims(LIMITS, (24, 6))}


def test_the_limits_are_the_cards():
    assert LIMITS == {
        "judge": 0.95,
        "style_moved": 0.7,
        "content_lost": 0.1,
        "tie": 0.01,
        "small_gain": 0.05,
        "over_original": 0.03,
        "over_reference": 0.01,
        "diversity": 0.2,
    }
    assert all(size["thresholds"] == LIMITS for size in CONFIG["sizes"].values())


def test_all_claims_hold_for_good_figures():
    assert held(good()) == dict.fromkeys("12345", True)


@pytest.mark.parametrize(
    ("arm", "figures", "lost"),
    [
        ("transfer", {"style_moved": 0.69}, "1"),
        ("transfer", {"dice_after": 0.69}, "1"),
        ("transfer", {"prior_distance": 0.019}, "5"),
        ("target_aug", {"6": dice(0.81)}, "2"),
        ("ph", {"24": dice(0.92)}, "2"),
        ("dt", {"6": dice(0.81)}, "3"),
        ("robust_reference", {"unobserved": dice(0.595)}, "4"),
    ],
)
def test_each_condition_can_fail_its_claim(arm, figures, lost):
    results = good()
    results[arm][0] = {**results[arm][0], **figures}
    assert held(results) == {name: name != lost for name in "12345"}


def test_no_two_parts_share_an_anatomy():
    small = CONFIG["sizes"]["medium"]
    counts = {"pool": small["pool"], "judge": small["judge_frames"], "phantom": small["phantom_frames"]}
    counts |= {"target": max(small["targets"]), "labelled": small["labelled_frames"]}
    counts |= {"validation": 100_000, "test": 100_000}
    spans = sorted((FIRST_SEEDS[name], FIRST_SEEDS[name] + count) for name, count in counts.items())
    assert len(spans) == len(FIRST_SEEDS)
    assert all(a[1] <= b[0] for a, b in pairwise(spans))


def test_frames_are_kept_and_read_again(tmp_path):
    options = {"count": 4, "first_seed": 9, "contents": ("leg",), "machines": (0, 3), "size": 32}
    first = cached_frames(tmp_path / "f.pt", **options)
    stamp = (tmp_path / "f.pt").stat().st_mtime_ns
    again = cached_frames(tmp_path / "f.pt", **options)
    assert (tmp_path / "f.pt").stat().st_mtime_ns == stamp
    assert torch.equal(first.images, again.images)
    assert first.machines.tolist() == [0, 3, 0, 3]
    assert len(first.first(2).labels) == 2


@pytest.mark.slow
def test_the_study_runs_and_goes_on_where_it_was(tmp_path):
    options = {"scale": "tiny", "device": "cpu", "out": str(tmp_path / "out"), "work": str(tmp_path / "work")}
    outcomes = run_bundle(BUNDLE, **options)
    assert [outcome.claim.id for outcome in outcomes] == list("12345")
    run = json.loads((tmp_path / "out/claims.json").read_text())["runs"]["tiny"]
    vt = run["arms"]["vt"]["figures"]["0"]
    assert set(vt) == {"6", "4"}
    assert all(0 <= vt["6"][name] <= 1 for name in ("vein", "artery", "mean"))
    assert (tmp_path / "out/claims_tiny.png").stat().st_size > 10_000
    before = run["arms"]["vt"]["seconds"]
    run_bundle(BUNDLE, **options)
    again = json.loads((tmp_path / "out/claims.json").read_text())["runs"]["tiny"]
    assert again["arms"]["vt"]["seconds"] == before  # nothing was run twice
