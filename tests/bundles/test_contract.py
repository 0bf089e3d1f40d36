"""What every bundle promises; the bundles are found, not listed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import check_bundles
import pytest
import torch
from bundle_workflows import TOOLS, loss_curve, run_workflow

from medsynth_ext.handlers import load_weights

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def key_metric(trained) -> str:
    """Name of the metric by which a bundle chooses its weights."""
    (name,) = trained.workflow.parser.get("validate#key_metric")
    return name


def rows(folder: Path) -> int:
    path = folder / "loss.csv"
    return path.read_text().count("\n") if path.exists() else 0


@pytest.mark.parametrize("check", list(check_bundles.CHECKS))
@pytest.mark.parametrize("root", check_bundles.find_bundles(), ids=lambda path: path.name)
def test_bundle_passes_the_check(root, check):
    outcome, note = check_bundles.run_check(check_bundles.CHECKS[check], check_bundles.Bundle(root))
    assert outcome != "FAIL", note


@pytest.mark.parametrize("root", check_bundles.find_bundles(), ids=lambda path: path.name)
def test_training_and_inference_build_the_same_network(root):
    bundle = check_bundles.Bundle(root)
    shapes = []
    for name, kind in (("train.json", "train"), ("inference.json", "infer"), ("evaluate.json", "infer")):
        network = bundle.workflow(name, kind=kind).parser.get_parsed_content("network_def")
        shapes.append({key: tuple(value.shape) for key, value in network.state_dict().items()})
    assert shapes[0] == shapes[1] == shapes[2]


def test_training_lowers_the_loss(trained):
    losses = [loss for _, loss in loss_curve(trained.output)]
    quarter = len(losses) // 4
    assert sum(losses[-quarter:]) < 0.95 * sum(losses[:quarter])


def test_training_leaves_log_pictures_and_scalars(trained):
    epochs = json.loads((trained.output / "epochs.json").read_text())
    assert [record["epoch"] for record in epochs] == list(range(1, trained.settings["epochs"] + 1))
    assert all(0 <= record["metrics"][key_metric(trained)] <= 1 for record in epochs)
    assert len(list((trained.output / "pictures").glob("*.png"))) == len(epochs)
    assert list((trained.output / "tensorboard").glob("events.*"))


def test_saved_weights_give_the_same_output(trained):
    parser = trained.workflow.parser
    average = parser.get_parsed_content("ema").network.eval()
    parser.parse(reset=True)
    fresh = parser.get_parsed_content("network_def").eval()
    ports = check_bundles.Bundle(trained.bundle).metadata["network_data_format"]
    image = ports["inputs"]["image"]
    size = [32] * len(image["spatial_shape"])
    x = torch.rand(1, image["num_channels"], *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = fresh(x)
        load_weights(fresh, trained.weights)
        loaded, kept = fresh(x), average(x)
    assert not torch.allclose(before, kept, atol=0.05)
    epochs = json.loads((trained.output / "epochs.json").read_text())
    choose = min if parser.get("best_weights", {}).get("smaller_is_better", False) else max
    best = choose(epochs, key=lambda record: record["metrics"][key_metric(trained)])
    if best["epoch"] == trained.settings["epochs"]:  # the best epoch is the last one, whose average is in memory
        assert torch.allclose(loaded, kept, rtol=0.02, atol=0.02)
    else:
        assert torch.isfinite(loaded).all()


@pytest.mark.parametrize("configs", [["evaluate.json"], ["train.json", "evaluate.json"]], ids=["alone", "after_train"])
def test_evaluation_writes_a_table_of_metrics(trained, tmp_path, configs):
    settings = trained.tiny.evaluate(tmp_path / "data", trained.weights)
    # Alone it is no training workflow, and no inference workflow for MONAI either: its ids are those of validation.
    workflow = run_workflow(
        trained.bundle, *configs, kind="train" if len(configs) == 2 else None, output_dir=str(tmp_path), **settings
    )
    metrics = workflow.parser.get_parsed_content("validate#evaluator").state.metrics
    name = key_metric(trained)
    assert 0 <= metrics[name] <= 1
    assert (tmp_path / "metrics.csv").read_text().count(name) == 1
    assert "one" in (tmp_path / f"{name}_raw.csv").read_text()


def test_inference_writes_its_results(trained, tmp_path):
    settings = trained.tiny.infer(tmp_path / "data", trained.weights)
    run_workflow(trained.bundle, "inference.json", kind="infer", output_dir=str(tmp_path / "results"), **settings)
    assert [path for path in (tmp_path / "results").iterdir() if path.name.startswith("one")]


def start_training(trained, out: Path) -> subprocess.Popen:
    settings = {"epochs": trained.settings["epochs"], "device": "cpu", **trained.settings}
    settings.pop("dataset_dir")
    sets = [f"--set={key}={json.dumps(value)}" for key, value in settings.items()]
    command = [sys.executable, str(TOOLS / "train_weights.py"), str(trained.bundle), "--minutes=10", f"--out={out}"]
    command += [f"--labels-dir={trained.settings['dataset_dir']}", *sets]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_killed_training_goes_on_with_the_same_loss_curve(trained, tmp_path):
    whole = loss_curve(trained.output)
    process = start_training(trained, tmp_path)
    while rows(tmp_path) < len(whole) // 2 + 2:  # in the middle of an epoch after a checkpoint
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert len(loss_curve(tmp_path)) < len(whole)
    assert list((tmp_path / "checkpoints").glob("checkpoint_epoch=*.pt"))
    weights = torch.load(tmp_path / "model.pt", weights_only=True)  # complete although the program was killed
    assert torch.float16 in {value.dtype for value in weights.values()}
    again = start_training(trained, tmp_path)
    _, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    assert loss_curve(tmp_path) == whole
