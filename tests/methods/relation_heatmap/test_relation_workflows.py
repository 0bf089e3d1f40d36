"""The bundle's ways to train, its files, and input that cannot be used."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_workflows import load_tiny, loss_curve, run_workflow
from monai.bundle import ConfigWorkflow
from PIL import Image

from medsynth_ext.data.point_frames import FrameError, find_point_frames, read_points
from medsynth_ext.methods.relation_heatmap.decoding import count_bounds
from medsynth_ext.methods.relation_heatmap.sweep import sweep_scores

BUNDLE = Path(__file__).parents[3] / "bundles/adaptor_relation_heatmap_detection"
TINY = load_tiny(BUNDLE.name)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two epochs on tiny data."""
    return {**TINY.train(tmp_path_factory.mktemp("frames")), "epochs": 2}


def train(out: Path, *configs: str, **settings: Any) -> ConfigWorkflow:
    return run_workflow(BUNDLE, "train.json", *configs, output_dir=str(out), ckpt_dir=str(out), **settings)


@pytest.mark.parametrize("strategy", ["adversarial", "collaborative"])
def test_a_training_that_stopped_goes_on_with_everything(
    settings: dict[str, Any], tmp_path: Path, strategy: str
) -> None:
    options = {**settings, "epochs": 3, "write_weights": "latest"}
    train(tmp_path / "whole", f"{strategy}.json", **options)
    part = {**options, "train#trainer#max_epochs": 2}  # the schedule is that of three epochs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medsynth_ext.handlers.Checkpoint.clear", lambda *_: None)
        train(tmp_path / "parts", f"{strategy}.json", **part)
    train(tmp_path / "parts", f"{strategy}.json", **options)
    assert loss_curve(tmp_path / "parts") == loss_curve(tmp_path / "whole")
    assert len(loss_curve(tmp_path / "whole")) == 12


def test_both_networks_of_the_collaboration_have_the_same_optimiser_and_schedule(settings: dict[str, Any]) -> None:
    names = [str(BUNDLE / "configs" / name) for name in ("train.json", "paper.json", "collaborative.json")]
    workflow = ConfigWorkflow(names, workflow_type="train", logging_file=False, bundle_root=str(BUNDLE), initialize=[])  # type: ignore[arg-type]
    workflow.parser.update({"width": 2, "stem_channels": 4, "modules": [1, 1, 1], "blocks": [1, 1, 1, 1]})
    workflow.initialize()
    ours, theirs = (workflow.parser.get_parsed_content(name) for name in ("optimizer", "partner_optimizer"))
    assert type(ours) is type(theirs) is torch.optim.SGD
    assert ours.defaults == theirs.defaults
    assert (ours.defaults["lr"], ours.defaults["momentum"], ours.defaults["weight_decay"]) == (5e-5, 0.9, 1e-4)
    schedules = [workflow.parser.get_parsed_content(name) for name in ("scheduler", "partner_scheduler")]
    for _ in range(3):
        for schedule in schedules:
            schedule.step()
        assert ours.param_groups[0]["lr"] == pytest.approx(theirs.param_groups[0]["lr"])


@pytest.mark.parametrize(("option", "channels"), [("adaptive", 1), ("links", 2)])
def test_relations_train(settings: dict[str, Any], tmp_path: Path, option: str, channels: int) -> None:
    workflow = train(tmp_path, relation=option, **{**settings, "epochs": 1})
    network = workflow.parser.get_parsed_content("network_def")
    assert network.head[-1].out_channels == channels
    assert all(math.isfinite(loss) for _, loss in loss_curve(tmp_path))


def test_weights_carry_the_bounds_of_the_surgeries_that_trained_them(settings: dict[str, Any], tmp_path: Path) -> None:
    train(tmp_path, **settings)
    frames = find_point_frames(Path(settings["dataset_dir"]) / "intraop", ["intraop_000"])
    want = count_bounds([len(read_points(frame["points"])) for frame in frames])
    assert tuple(torch.load(tmp_path / "model.pt", weights_only=True)["count_bounds"].tolist()) == want


def test_without_the_simulator_no_frame_of_it_is_read_into_a_batch(settings: dict[str, Any], tmp_path: Path) -> None:
    workflow = train(tmp_path, **{**settings, "lambda_sim": 0.0, "epochs": 1})
    sampler = workflow.parser.get_parsed_content("train#sampler")
    frames = workflow.parser.get_parsed_content("frames")
    assert {frames[i]["domain"] for i in sampler} == {1}


def test_evaluation_writes_precision_against_sensitivity(tmp_path: Path) -> None:
    weights = BUNDLE / "models/model.pt"
    options = TINY.evaluate(tmp_path / "data", weights)
    for name in (*TINY.NETWORK, "frame_size", "radius"):
        del options[name]
    run_workflow(BUNDLE, "evaluate.json", kind=None, output_dir=str(tmp_path), **options)
    with (tmp_path / "threshold_sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["threshold"]) for row in rows] == [round(0.05 * i, 2) for i in range(1, 20)]
    found = [float(row["sensitivity"]) for row in rows]
    assert found == sorted(found, reverse=True)


def test_sweep_counts_candidates_that_reach_the_threshold() -> None:
    points = torch.tensor([[5.0, 5.0], [9.0, 9.0], [20.0, 20.0]])
    labels = torch.tensor([[5.0, 5.0], [20.0, 21.0], [math.nan, math.nan]])
    rows = sweep_scores([(points, torch.tensor([0.9, 0.5, 0.3]), labels)], [0.3, 0.5, 0.6, 0.95], 2.0)
    assert [row["precision"] for row in rows] == pytest.approx([2 / 3, 0.5, 1.0, 0.0])
    assert [row["sensitivity"] for row in rows] == pytest.approx([1.0, 0.5, 0.5, 0.0])


def test_frames_that_cannot_be_used_are_named_and_the_others_searched(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (30, 50, 4), dtype=np.uint8)).save(folder / "one.png")
    Image.fromarray(rng.integers(0, 60000, (20, 30)).astype(np.uint16)).save(folder / "two.png")
    (folder / "three.png").write_bytes(b"")
    with pytest.raises(SystemExit, match=r"(?s)1 of 3 frames could not be searched:\n.*three\.png"):
        run_workflow(BUNDLE, "inference.json", kind="infer", dataset_dir=str(folder), output_dir=str(tmp_path / "out"))
    for name, size in (("one", [30, 50]), ("two", [20, 30])):
        found = json.loads((tmp_path / "out" / f"{name}.json").read_text())
        assert [found["imageHeight"], found["imageWidth"]] == size
        assert len(found["points"]) == len(found["scores"])
    assert next(iter(json.loads((tmp_path / "out/summary.json").read_text())["failed"])).endswith("three.png")


def test_bad_training_data_are_named(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as caught:
        train(tmp_path / "out", **{**settings, "dataset_dir": str(tmp_path)})
    assert str(root(caught.value)) == f"the folder {tmp_path / 'intraop'} does not exist"
    TINY.write_domains(tmp_path / "one", sim=1, intraop=1, frames=2, size=TINY.SIZE)
    with pytest.raises(RuntimeError) as caught:
        train(tmp_path / "out", **{**settings, "dataset_dir": str(tmp_path / "one")})
    assert isinstance(root(caught.value), FrameError)
    assert "no surgery is left to train on" in str(root(caught.value))


def root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
