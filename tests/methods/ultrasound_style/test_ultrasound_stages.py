"""The stages before the transfer, the baseline, the bank of styles: each config runs and fits the next."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from bundle_workflows import loss_curve, run_workflow
from monai.bundle import ConfigParser

from medsynth_ext.methods.ultrasound_style.styles import load_bank
from medsynth_ext.networks import FeatureNetwork, VGGFeatures
from medsynth_ext.phantoms.ultrasound import write_frames

BUNDLE = Path(__file__).resolve().parents[3] / "bundles/ultrasound_variational_style_transfer"
SMALL = {"size": [32, 32], "epochs": 1, "samples_per_epoch": 8, "batch_size": 4}
FEATURES = [4, 6, 8, 8, 8]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    write_frames(folder, count=24, size=(32, 32))
    return folder


def run(name: str | list[str], out: Path, data: Path, **settings):
    names = [name] if isinstance(name, str) else name
    paths = {"output_dir": str(out / "log"), "ckpt_dir": str(out), "dataset_dir": str(data)}
    return run_workflow(BUNDLE, *names, **{**paths, **SMALL, **settings})


def test_three_stages_hand_on_their_networks(tmp_path, data):
    run("train_features.json", tmp_path, data, output_dir=str(tmp_path / "f"))
    FeatureNetwork(width=0.125, weights=str(tmp_path / "features.pt"))
    for stage in ("content", "style"):
        run(f"train_{stage}.json", tmp_path, data, output_dir=str(tmp_path / stage), features=FEATURES)
    first = torch.load(tmp_path / "content_encoder.pt", weights_only=True)
    encoders = {f"init_{stage}": str(tmp_path / f"{stage}_encoder.pt") for stage in ("content", "style")}
    options = {"features": FEATURES, "feature_weights": str(tmp_path / "features.pt"), "learning_rate": 0.0}
    run("train.json", tmp_path, data, **encoders, **options, ema_decay=0.0)
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    name = "blocks.0.layers.0.weight"
    assert torch.equal(state[f"content_encoder.{name}"], first[name])  # handed on, and at a rate of 0 not moved
    run_workflow(
        BUNDLE,
        "styles.json",
        kind=None,
        dataset_dir=str(data),
        weights=str(tmp_path / "model.pt"),
        style_bank=str(tmp_path / "styles.pt"),
        size=[32, 32],
        features=FEATURES,
    )
    assert load_bank(tmp_path / "styles.pt", sum(FEATURES)).shape == (24, sum(FEATURES))


def test_a_flat_pretraining_ends_early(tmp_path, data):
    settings = {"features": FEATURES, "epochs": 6, "patience": 2, "least_change": 10.0}
    run("train_content.json", tmp_path, data, **settings)
    assert len(loss_curve(tmp_path / "log")) == 3 * 2


def test_the_deterministic_baseline_moves_its_decoder_and_not_its_features(tmp_path, data):
    run(["train.json", "baseline.json"], tmp_path, data, learning_rate=0.01, ema_decay=0.0)
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    shipped = torch.load(BUNDLE / "models/features.pt", weights_only=True)
    assert all(torch.equal(state[f"features.{name}"], value) for name, value in shipped.items())
    assert state["decoder.out.bias"].abs().sum() > 0  # it began at zero
    assert len(loss_curve(tmp_path / "log")) == 2


def test_the_papers_settings_name_the_papers_network(tmp_path):
    torch.save(VGGFeatures(depth=16).state_dict(), tmp_path / "vgg16.pth")
    parser = ConfigParser()
    parser.read_config([str(BUNDLE / "configs" / name) for name in ("train.json", "paper.json")])
    parser["bundle_root"], parser["vgg_weights"] = str(BUNDLE), str(tmp_path / "vgg16.pth")
    features = parser.get_parsed_content("feature_net")
    assert features.size == (224, 224)
    # The published weights of the loss belong to features of images from 0 to 255.
    body = features.body
    assert body.blue_first
    assert torch.allclose(body.std, torch.tensor(1 / 255))
    assert [part.shape[1] for part in features(torch.rand(1, 1, 32, 32))] == [64, 128, 256, 512, 512]
    assert parser.get("style_weights") == [0.1, 0.002, 0.001, 0.01, 10.0]
    assert parser.get("content_weights") == [0, 0, 0, 0, 0.01]
    assert (parser.get("structure_weight"), parser.get("normalise_content"), parser.get("latent")) == (
        0,
        False,
        "spatial",
    )
    assert json.loads((BUNDLE / "configs/paper.json").read_text())["learning_rate"] == 5e-5
