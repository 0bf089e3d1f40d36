from __future__ import annotations

import json
from pathlib import Path

import pytest

from medsynth_ext.claims import Results
from medsynth_ext.methods.fedsim.claims.federated_study import FederatedStudy, make_federated_claims

BUNDLE = Path(__file__).resolve().parents[2] / "bundles/fedsim_cardiac_ct_synthesis"
LIMITS = {"federated_tie": 1.5, "federated_gain": 1.0, "elsewhere": 1.0, "learned": 50.0}
SITES = ("A", "B", "C")


def cells(own: float, elsewhere: float) -> dict:
    return {
        f"{site}-2": {"dice": own, "elsewhere": {other: elsewhere for other in SITES if other != site}}
        for site in SITES
    }


def outcomes(**dice: tuple[float, float]) -> dict[str, bool]:
    arms = {"sim_fl": (80.0, 75.0), "direct_fl": (80.5, 70.0), "full": (78.0, 70.0), "lower": (76.0, 70.0)} | dice
    figures = {name: {0: cells(*pair), 1: cells(*pair)} for name, pair in arms.items()}
    figures["federated_step"] = {0: {"difference_float32": 5e-5, "difference_float64": 3e-12, "moved": 2e-3}}
    results = Results(figures)
    return {claim.id: claim.outcome(results).held for claim in make_federated_claims(LIMITS, sites=SITES)}


def test_claims_hold_for_figures_as_in_the_paper():
    assert outcomes() == {"4": True, "5": True, "11": True}


@pytest.mark.parametrize(
    ("dice", "claim"),
    [
        ({"direct_fl": (82.0, 70.0)}, "4"),  # the simulator is worse,
        ({"direct_fl": (78.0, 70.0)}, "4"),  # or better: not level
        ({"full": (79.5, 70.0)}, "4"),
        ({"lower": (40.0, 30.0)}, "4"),  # nothing was learned
        ({"lower": (76.0, 74.5)}, "5"),
        ({"lower": (70.0, 71.0)}, "5"),  # other scanners are no harder
    ],
)
def test_claim_falls_with_its_figures(dice, claim):
    held = outcomes(**dice)
    assert not held[claim]


def test_bundle_has_a_limit_for_every_claim_at_every_scale():
    """The overlay's entries exist in the study's config, so that none of them is silently added beside it."""
    config = json.loads((BUNDLE / "configs/claims.json").read_text())
    overlay = json.loads((BUNDLE / "configs/federated_claims.json").read_text())
    for key, value in overlay.items():
        place = config
        *path, last = key.split("#")
        for part in path:
            place = place[part]
        if last not in ("federated_tie", "federated_gain", "elsewhere"):
            assert last in place, key
        place[last] = value
    for scale, settings in config["sizes"].items():
        study = FederatedStudy(settings, shape_model=BUNDLE / "models/shape_model.npz")
        names = {arm.name for arm in study.arms()}
        for claim in study.claims():
            assert set(claim.arms) <= names, scale
        assert {claim.id for claim in study.claims()} == {"4", "5", "11"}
        assert set(LIMITS) <= set(study.settings.thresholds)
