"""FBPAug's study: what is measured, how claims are judged, and a run at the smallest size."""

from __future__ import annotations

import json
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
from medsynth_ext.methods.fbpaug.claims import FBPAugStudy
from medsynth_ext.methods.fbpaug.claims.scikit_chain import scikit_chain
from medsynth_ext.methods.fbpaug.claims.settings import ARMS, SPLITS
from medsynth_ext.phantoms.chest import KERNELS, chest_slice

BUNDLE = Path(__file__).parents[2] / "bundles" / "fbpaug_ct_segmentation"


def sizes() -> dict[str, Any]:
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / "claims.json"))
    return parser.get_parsed_content("sizes")


@pytest.mark.parametrize("scale", ["tiny", "small", "medium"])
def test_every_scale_of_the_config_makes_a_study_whose_claims_have_their_arms(scale: str) -> None:
    study = pickle.loads(pickle.dumps(FBPAugStudy(sizes()[scale])))
    names = {arm.name for arm in study.arms()}
    assert names == {*ARMS, "speed"}
    assert {name for claim in study.claims() for name in claim.arms} == names
    assert [claim.id for claim in study.claims()] == list("1234567")
    for arm in study.arms():
        json.dumps(arm.settings, allow_nan=False)


def test_people_of_training_validation_and_test_are_different() -> None:
    largest = sizes()["medium"]
    ends = sorted((first, first + max(largest["train_slices"], largest["test_slices"])) for first in SPLITS.values())
    assert all(end <= start for (_, end), (start, _) in pairwise(ends))


def test_wrong_settings_are_named() -> None:
    settings = sizes()["tiny"]
    settings["stepz"] = 3
    with pytest.raises(ValueError, match="look at stepz"):
        FBPAugStudy(settings)
    with pytest.raises(ValueError, match="split must be one of"):
        FBPAugStudy(sizes()["tiny"], split="train")


def test_scikit_image_computes_the_same_chain() -> None:
    pytest.importorskip("skimage")
    image = torch.nn.functional.avg_pool2d(chest_slice(0, size=64, spacing_mm=5.0).fine_hu[None], 2)
    want = torch.from_numpy(scikit_chain(image[0].double().numpy(), 10.0, 3.0, 48)).float()
    found = ops.kernel_augment(image, torch.tensor([10.0]), torch.tensor([3.0]), views=48)[0]
    at = torch.arange(64) - 32
    inside = at[:, None] ** 2 + at**2 < 29**2
    assert (found - want)[inside].abs().mean() < 0.02 * want[inside].std()


def figures(agreement: float, soft: float, sharp: float, bias: float) -> dict[str, Any]:
    held_out = dict.fromkeys(KERNELS, agreement)
    dice = {kernel: sharp if kernel.startswith("sharp") else soft for kernel in KERNELS}
    return {"agreement": held_out, "dice": dice, "volume_bias": dict.fromkeys(KERNELS, bias)}


def test_claims_are_judged_by_the_gaps_between_the_arms() -> None:
    claims = {claim.id: claim for claim in FBPAugStudy(sizes()["tiny"]).claims()}
    base, ours = figures(0.3, 0.8, 0.1, -0.8), figures(0.6, 0.79, 0.4, 0.2)
    results = Results({"baseline": {0: base}, "fbpaug": {0: ours}})
    assert all(claims[name].outcome(results).held for name in ("1", "3", "4", "5"))
    swapped = Results({"baseline": {0: ours}, "fbpaug": {0: base}})
    assert not any(claims[name].outcome(swapped).held for name in ("1", "4", "5"))
    nothing = figures(0.9, 0.02, 0.0, 0.0)
    outcome = claims["1"].outcome(Results({"baseline": {0: base | {"dice": nothing["dice"]}}, "fbpaug": {0: ours}}))
    assert not outcome.held
    assert "precondition" in outcome.reason
    others = {name: {0: figures(level, 0.8, 0.2, 0.1)} for name, level in (("gamma", 0.5), ("noise", 0.6))}
    both = {"baseline": {0: base}, "fbpaug": {0: ours}, **others}
    assert claims["2"].outcome(Results({**both, "windowing": {0: figures(0.4, 0.8, 0.2, 0.1)}})).held
    assert not claims["2"].outcome(Results({**both, "windowing": {0: figures(0.7, 0.8, 0.2, 0.1)}})).held


def test_the_bundle_runs_at_the_smallest_size_and_writes_its_report(tmp_path: Path) -> None:
    code = main([str(BUNDLE), "--scale", "tiny", "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")])
    assert code == 0
    record = json.loads((tmp_path / "out" / "claims.json").read_text())["runs"]["tiny"]
    assert set(record["arms"]) == {*ARMS, "speed"}
    for claim in record["claims"]:
        assert claim["held"] or claim["reason"]
    assert (tmp_path / "out" / "claims_tiny.png").is_file()
