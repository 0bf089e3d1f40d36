from __future__ import annotations

import json

import check_bundles
import pytest
from bundle_workflows import load_tiny, loss_curve, run_workflow
from new_bundle import main, new_bundle

import medsynth_ext.methods


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A tree with a new bundle, whose method room is made importable beside the installed ones."""
    root = tmp_path_factory.mktemp("tree")
    new_bundle("ball_toy_segmentation", "ball_toy", title="Ball toy", root=root)
    installed = medsynth_ext.methods.__path__
    medsynth_ext.methods.__path__ = [*installed, str(root / "medsynth_ext/methods")]
    yield root
    medsynth_ext.methods.__path__ = installed


@pytest.mark.parametrize("check", list(check_bundles.CHECKS))
def test_a_new_bundle_passes_the_check(root, check):
    bundle = check_bundles.Bundle(root / "bundles/ball_toy_segmentation")
    outcome, note = check_bundles.run_check(check_bundles.CHECKS[check], bundle)
    assert outcome != "FAIL", note


def test_a_new_bundle_trains_evaluates_and_segments(root, tmp_path):
    bundle = root / "bundles/ball_toy_segmentation"
    tiny = load_tiny(bundle.name, root / "tests/bundles/tiny")
    out = tmp_path / "out"
    run_workflow(bundle, "train.json", output_dir=str(out), ckpt_dir=str(out), **tiny.train(tmp_path / "train"))
    losses = [loss for _, loss in loss_curve(out)]
    assert losses[-1] < 0.7 * losses[0]
    settings = tiny.evaluate(tmp_path / "test", out / "model.pt")
    run_workflow(bundle, "train.json", "evaluate.json", output_dir=str(tmp_path), **settings)
    assert "val_sd95_mm" in (tmp_path / "metrics.csv").read_text()
    settings = tiny.infer(tmp_path / "test", out / "model.pt")
    run_workflow(bundle, "inference.json", kind="infer", output_dir=str(tmp_path / "seg"), **settings)
    assert [path.name for path in (tmp_path / "seg").iterdir()] == ["one_seg.nii.gz"]


def test_no_mark_of_the_templates_is_left(root):
    for path in root.rglob("*"):
        if path.suffix in (".py", ".json", ".md", ".txt"):
            assert "__METHOD__" not in path.read_text()
            assert "__CLASS__" not in path.read_text()
    metadata = json.loads((root / "bundles/ball_toy_segmentation/configs/metadata.json").read_text())
    assert metadata["name"] == "Ball toy"


def test_nothing_is_overwritten(root):
    with pytest.raises(FileExistsError, match="bundles/ball_toy_segmentation exists already"):
        new_bundle("ball_toy_segmentation", "another", root=root)
    with pytest.raises(FileExistsError, match="medsynth_ext/methods/ball_toy exists already"):
        new_bundle("another_toy_segmentation", "ball_toy", root=root)


@pytest.mark.parametrize(("name", "method"), [("Ball_toy", "ball"), ("ball", "ball"), ("ball_toy", "1ball")])
def test_names_must_be_snake_case(tmp_path, name, method, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["new_bundle.py", name, "--method", method, f"--root={tmp_path}"])
    assert main() == 1
    assert "must be snake_case" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
