"""The study of semi-paired translation: its scales, its judgements by hand, and a run at the smallest size."""

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
from medsynth_ext.methods.semipaired.claims import SemiPairedStudy
from medsynth_ext.methods.semipaired.claims.patients import scaled_mr
from medsynth_ext.methods.semipaired.claims.scoring import structure_dice
from medsynth_ext.methods.semipaired.claims.settings import ARMS, SPLITS

BUNDLE = Path(__file__).parents[2] / "bundles" / "semipaired_mr_ct_translation"


def sizes() -> dict[str, Any]:
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / "claims.json"))
    return parser.get_parsed_content("sizes")


@pytest.mark.parametrize("scale", ["tiny", "small", "medium"])
def test_every_scale_of_the_config_makes_a_study_whose_claims_have_their_arms(scale: str) -> None:
    study = pickle.loads(pickle.dumps(SemiPairedStudy(sizes()[scale])))
    assert {arm.name for arm in study.arms()} == set(ARMS)
    assert {name for claim in study.claims() for name in claim.arms} == set(ARMS)
    assert [claim.id for claim in study.claims()] == list("123456")
    for arm in study.arms():
        json.dumps(arm.settings, allow_nan=False)


def test_patients_of_training_validation_and_test_are_different() -> None:
    largest = sizes()["medium"]
    count = max(largest[key] for key in ("train_mr", "train_ct", "test_mr", "test_ct"))
    ends = sorted((first, first + count) for first in SPLITS.values())
    assert all(end <= start for (_, end), (start, _) in pairwise(ends))


def test_wrong_settings_are_named() -> None:
    settings = sizes()["tiny"]
    settings["stepz"] = 3
    with pytest.raises(ValueError, match="look at stepz"):
        SemiPairedStudy(settings)
    with pytest.raises(ValueError, match="split must be one of"):
        SemiPairedStudy(sizes()["tiny"], split="train")


def figures(fid: float, dice: float) -> dict[str, Any]:
    one = {"fid": fid, "kid": fid / 100, "dice": {"mean": dice}, "hu_dif": fid / 2, "body_mae_hu": fid}
    return {"mr2ct": one, "ct2mr": one, "segmenter_dice": {"ct": {"mean": 0.9}}}


PAPER = {
    "mr2ct": (34.3, 0.88),
    "mr2ct_pix2pix": (122.6, 0.91),
    "mr2ct_pix2pixhd": (121.9, 0.91),
    "cyclegan": (55.9, 0.58),
    "mr2ct_l1": (147.4, 0.72),
    "mr2ct_gan": (67.3, 0.23),
    "ct2mr": (30.0, 0.83),
    "ct2mr_pix2pix": (90.8, 0.81),
    "ct2mr_pix2pixhd": (127.8, 0.81),
    "ct2mr_gan": (40.0, 0.24),
    "ct2mr_cgan": (32.8, 0.52),
}


def outcomes(table: dict[str, tuple[float, float]]) -> dict[str, bool]:
    results = Results({name: {0: figures(*values)} for name, values in table.items()})
    return {c.id: c.outcome(results).held for c in SemiPairedStudy(sizes()["small"]).claims()}


def test_the_orders_of_the_papers_tables_fulfil_every_claim_and_others_do_not() -> None:
    assert all(outcomes(PAPER).values())
    assert not outcomes({**PAPER, "mr2ct": (100.0, 0.88)})["1"]
    assert not outcomes({**PAPER, "mr2ct": (34.3, 0.60)})["2"]
    assert not outcomes({**PAPER, "cyclegan": (55.9, 0.80)})["3"]
    assert not outcomes({**PAPER, "mr2ct_gan": (67.3, 0.80)})["4"]
    assert not outcomes({**PAPER, "ct2mr_cgan": (32.8, 0.90)})["5"]
    assert not outcomes({**PAPER, "mr2ct": (130.0, 0.88)})["6"]


def test_dice_is_that_of_body_and_structures_per_patient() -> None:
    class Truth(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:  # labels as an image of tenths
            return torch.nn.functional.one_hot((10 * image[:, 0]).round().long(), 6).movedim(-1, 1).float()

    labels = torch.zeros(4, 8, 8, dtype=torch.uint8)
    labels[:, 2:6, 2:6] = 1
    labels[:, 3, 3] = 4
    perfect = structure_dice(Truth(), labels / 10, labels, 2)
    assert perfect == {"body": 1.0, "prostate": 1.0, "mean": 1.0, "sd": 0.0}
    found = labels.clone()
    found[2:, 3, 3] = 1  # the second patient's prostate is missed
    assert structure_dice(Truth(), found / 10, labels, 2)["prostate"] == 0.5


def test_mr_is_scaled_by_percentiles_as_the_bundle_does() -> None:
    scan = torch.linspace(0, 1000, 1001).view(1, 7, 143)
    scaled = scaled_mr(scan)
    assert scaled.min() == -1
    assert scaled.max() == 1
    assert scaled.flatten()[500].item() == pytest.approx(0, abs=1e-4)


def test_the_whole_study_runs_at_the_smallest_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = ["--out", str(tmp_path / "docs"), "--work", str(tmp_path / "work"), "--scale", "tiny"]
    assert main([str(BUNDLE), *work]) in (0, 1)
    record = json.loads((tmp_path / "docs" / "claims.json").read_text())["runs"]["tiny"]
    assert [claim["claim"] for claim in record["claims"]] == list("123456")
    assert (tmp_path / "docs" / "claims_tiny.png").is_file()
    assert set(record["arms"]["cyclegan"]["figures"]["0"]) == {"segmenter_dice", "mr2ct", "ct2mr"}
    assert "of 6 claims held" in capsys.readouterr().out
