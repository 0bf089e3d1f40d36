"""SynthSeg's study: what is measured, how claims are judged, and a run at the smallest size."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from medsynth_ext.claims import Results, run_bundle
from medsynth_ext.claims.__main__ import main
from medsynth_ext.methods.synthseg.claims import SynthSegStudy
from medsynth_ext.methods.synthseg.claims.arms import ARMS
from medsynth_ext.methods.synthseg.claims.composition import compose_pair
from medsynth_ext.methods.synthseg.claims.evaluation import dice_per_channel
from medsynth_ext.methods.synthseg.claims.generation import _generator
from medsynth_ext.methods.synthseg.claims.heads import normalise, phantom_label_table
from medsynth_ext.methods.synthseg.claims.judging import cohens_d
from medsynth_ext.methods.synthseg.claims.training import ScanPairs, SyntheticPairs, _pick

BUNDLE = Path(__file__).parents[2] / "bundles" / "synthseg_brain_segmentation"


def sizes() -> dict[str, Any]:
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / "claims.json"))
    return parser.get_parsed_content("sizes")


@pytest.fixture(scope="module")
def study() -> SynthSegStudy:
    return SynthSegStudy(sizes()["tiny"])


def test_dice_of_a_hand_worked_example_and_of_an_absent_structure() -> None:
    truth = torch.tensor([0, 0, 1, 1, 1, 2])
    predicted = torch.tensor([0, 1, 1, 1, 0, 3])
    dice = dice_per_channel(predicted, truth, 4)
    assert dice[0].item() == pytest.approx(2 * 2 / 6)
    assert dice[1].item() == 0.0
    assert math.isnan(dice[2].item())


def test_cohens_d_of_a_hand_worked_example() -> None:
    assert cohens_d([2.0, 4.0], [1.0, 3.0]) == pytest.approx(1 / math.sqrt(2))


def test_mr_is_normalised_by_percentiles_and_ct_by_its_window() -> None:
    ramp = torch.linspace(-100, 300, 401)
    assert normalise(ramp, "CT")[[100, 140, 180]].tolist() == [0.0, 0.5, 1.0]
    scaled = normalise(1000 * ramp + 7, "T1")
    assert torch.allclose(scaled, normalise(ramp, "T1"), atol=1e-5)
    assert scaled.min() == 0
    assert scaled.max() == 1


@pytest.mark.parametrize("scale", ["tiny", "small", "medium"])
def test_every_scale_of_the_config_makes_a_study_whose_claims_have_their_arms(scale: str) -> None:
    study = SynthSegStudy(sizes()[scale])
    names = {arm.name for arm in study.arms()}
    assert [claim.id for claim in study.claims()] == ["1", "2", "3", "4", "5", "6", "7", "8", "9", "11", "12"]
    assert {name for claim in study.claims() for name in claim.arms} == names
    for arm in study.arms():
        json.dumps(arm.settings, allow_nan=False)


def test_a_study_can_be_sent_to_worker_processes(study: SynthSegStudy) -> None:
    copy = pickle.loads(pickle.dumps(study))
    assert [arm.settings for arm in copy.arms()] == [arm.settings for arm in study.arms()]


def test_all_networks_share_training_settings_and_seeds(study: SynthSegStudy) -> None:
    networks = [arm for arm in study.arms() if arm.name in ARMS]
    assert len({arm.seeds for arm in networks}) == 1
    assert len({json.dumps(arm.settings["training"]) for arm in networks}) == 1


@pytest.mark.parametrize("scale", ["small", "medium"])
def test_people_of_training_validation_and_test_are_different(scale: str) -> None:
    settings = sizes()[scale]
    groups = ("main", "large", "lesions", "groups")
    seeds = {
        split: {p.seed for p in SynthSegStudy(settings, split=split).heads.people(groups)}
        for split in ("validation", "test")
    }
    training = settings["training"]
    trained = {*range(training["young_maps"]), *range(10_000, 10_000 + training["old_maps"])}
    assert not seeds["test"] & seeds["validation"]
    assert not (seeds["test"] | seeds["validation"]) & trained


def test_wrong_settings_are_named() -> None:
    settings = sizes()["tiny"]
    settings["training"]["stepz"] = 3
    with pytest.raises(ValueError, match="look at stepz"):
        SynthSegStudy(settings)
    with pytest.raises(ValueError, match="split must be one of"):
        SynthSegStudy(sizes()["tiny"], split="train")


def test_every_map_is_used_once_per_epoch_whatever_the_batch() -> None:
    whole = _pick(6, seed=1, index=0, batch_size=12)
    parts = torch.cat([_pick(6, seed=1, index=i, batch_size=3) for i in range(0, 12, 3)])
    assert torch.equal(whole, parts)
    assert sorted(whole[:6].tolist()) == list(range(6))
    assert sorted(whole[6:].tolist()) == list(range(6))


def test_augmented_scans_stay_aligned_with_their_labels() -> None:
    """A scan that shows its own labels must, however it is moved, still show the labels that come with it."""
    generator, labels = _generator(24, 32)
    table = generator.label_table
    moved = type(generator)(
        table,
        crop_size=(24, 24, 24),
        spacing_mm=6.0,
        map_spacing_mm=6.0,
        validate=False,
        strip_prob=0.0,
        lesion_prob=1.0,
        bias_prob=0.0,
        gamma_std=0.0,
        flip_prob=0.5,
    )
    inside = (table.target_of[table.lut[labels.long()].long()] > 0).float()
    pairs = ScanPairs(moved, labels, inside)
    for index in range(4):
        image, target = pairs(seed=3, index=index, batch_size=1)
        away_from_edges = (image < 0.05) | (image > 0.95)
        agree = ((image > 0.5) == (target > 0))[away_from_edges].float().mean().item()
        assert agree > 0.97
        assert (target > 0).float().mean().item() > 0.02


def test_scans_and_synthetic_pairs_share_the_deformation() -> None:
    generator, labels = _generator(16, 32)
    options = {"strip_prob": 0.0, "lesion_prob": 1.0}
    same = type(generator)(
        generator.label_table, crop_size=(16,) * 3, spacing_mm=6.0, map_spacing_mm=6.0, validate=False, **options
    )
    _, synthetic = SyntheticPairs(same, labels)(seed=5, index=2, batch_size=1)
    _, scanned = ScanPairs(same, labels, labels.float())(seed=5, index=2, batch_size=1)
    assert torch.equal(synthetic.cpu(), scanned.cpu())


def test_scans_refuse_a_generator_that_strips_the_skull() -> None:
    generator, labels = _generator(16, 32)
    with pytest.raises(ValueError, match="keeps skull and lesions"):
        ScanPairs(generator, labels, labels.float())


def test_the_plain_composition_gives_the_same_kind_of_pair() -> None:
    """Same labels at nearly all voxels (the location rules of the resizes differ by half a voxel)."""
    generator, labels = _generator(32, 48)
    drawn = generator.draw(labels.shape, seed=1)
    image, target = compose_pair(generator, labels, drawn)
    ours, wanted = generator.apply(labels, drawn, seed=1)
    assert image.shape == ours.shape
    assert image.min() >= 0
    assert image.max() <= 1
    assert (target == wanted).float().mean() > 0.85


def figures(points: dict[str, float], *, shifted: float = 0.8) -> dict[str, Any]:
    dice = {f"main/{key}": [value] for key, value in points.items()}
    return {"dice": {**dice, "shifted/T1/6": [shifted]}}


def test_in_domain_and_out_of_domain_are_judged_by_the_gaps_of_the_means(study: SynthSegStudy) -> None:
    claims = {claim.id: claim for claim in study.claims()}
    ours = figures({"T1/6": 0.80, "T1/12": 0.7, "T2/6": 0.75, "T2/12": 0.7})
    base = figures({"T1/6": 0.84, "T1/12": 0.5, "T2/6": 0.30, "T2/12": 0.2}, shifted=0.82)
    results = Results({"synthseg": {0: ours}, "t1_baseline": {0: base}})
    assert claims["1"].outcome(results).held
    assert claims["2"].outcome(results).held
    third = claims["3"].outcome(results)
    assert not third.held
    assert third.conditions[0].mean == pytest.approx(-2.0)
    results = Results({"synthseg": {0: ours}, "t1_baseline": {0: figures({"T1/6": 0.86, "T2/6": 0.61})}})
    assert not claims["1"].outcome(results).held
    assert [c.held for c in claims["2"].outcome(results).conditions] == [True, False, True]


def test_resolution_is_judged_by_the_loss_at_the_coarsest_spacing(study: SynthSegStudy) -> None:
    claim = next(claim for claim in study.claims() if claim.id == "4")
    ours = figures({"T1/6": 0.80, "T1/12": 0.74, "T2/6": 0.70, "T2/12": 0.66})
    less = figures({"T1/6": 0.82, "T1/12": 0.70, "T2/6": 0.70, "T2/12": 0.62})
    outcome = claim.outcome(Results({"synthseg": {0: ours}, "no_resolution": {0: less}}))
    assert [c.mean for c in outcome.conditions] == pytest.approx([5.0, 5.0, 80.0])
    assert outcome.held


def test_the_phantom_table_knows_lesions_skull_and_fluid() -> None:
    table = phantom_label_table()
    lesion, white = table.generation_labels.index(25), table.generation_labels.index(2)
    assert table.lesion_source[lesion] == white
    assert table.is_csf.sum() == 1
    outside = [value for value, gone in zip(table.generation_labels, table.is_extra_cerebral, strict=True) if gone]
    assert outside
    assert min(outside) >= 500


def test_the_bundle_runs_at_the_smallest_size_and_writes_its_report(tmp_path: Path) -> None:
    code = main([str(BUNDLE), "--scale", "tiny", "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")])
    assert code == 0
    record = json.loads((tmp_path / "out" / "claims.json").read_text())["runs"]["tiny"]
    assert [claim["claim"] for claim in record["claims"]] == ["1", "2", "3", "4", "5", "6", "7", "8", "9", "11", "12"]
    assert set(record["arms"]) == {*ARMS, "repeatability", "speed"}
    eleventh = record["claims"][-2]
    assert eleventh["held"], eleventh["reason"]
    for claim in record["claims"]:
        assert claim["held"] or claim["reason"]
    assert (tmp_path / "out" / "claims_tiny.png").is_file()


def test_a_bundle_without_claims_and_an_unknown_scale_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 2
    assert "configs/claims.json, but" in capsys.readouterr().err
    with pytest.raises(ValueError, match="has no entry 'speling'"):
        run_bundle(BUNDLE, speling=3)


def test_networks_that_learned_nothing_do_not_hold_a_claim_about_their_difference(study: SynthSegStudy) -> None:
    claims = {claim.id: claim for claim in study.claims()}
    nothing = figures({"T1/6": 0.01, "T1/12": 0.01, "T2/6": 0.01, "T2/12": 0.01}, shifted=0.01)
    results = Results({"synthseg": {0: nothing}, "t1_baseline": {0: nothing}})
    for name in ("1", "3"):
        outcome = claims[name].outcome(results)
        assert not outcome.held
        assert "precondition" in outcome.reason
