"""A bundle's folder that is broken ends the run with one sentence and a status, before anything is written."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from bundle_workflows import load_tiny, one_thread
from check_bundles import find_bundles
from monai.bundle import run

from medsynth_ext.engines import sentence_of

BUNDLES = pytest.mark.parametrize("root", find_bundles(), ids=lambda path: path.name)


def ending(bundle: Path, scans: str, results: Path) -> str:
    """What a run of the inference workflow says when it ends, as ``python -m monai.bundle run`` calls it."""
    settings = {"bundle_root": str(bundle), "dataset_dir": scans, "output_dir": str(results), "device": "cpu"}
    config = str(bundle / "configs/inference.json")
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(SystemExit) as ended:
            run(config_file=config, logging_file=False, **settings)  # type: ignore[arg-type]
    assert isinstance(ended.value.code, str)  # a sentence as the code makes the exit status 1
    return ended.value.code


@BUNDLES
def test_missing_or_foreign_weights_are_named_and_nothing_is_written(root: Path, tmp_path: Path) -> None:
    scans = load_tiny(root.name).infer(tmp_path / "data", root / "models/model.pt")["dataset_dir"]
    copy = Path(shutil.copytree(root, tmp_path / root.name, ignore=shutil.ignore_patterns("eval", "docs")))
    weights, results = copy / "models/model.pt", tmp_path / "results"
    weights.unlink()
    assert ending(copy, scans, results) == f"error: the weights file {weights} does not exist"
    torch.save(torch.nn.Linear(2, 2).state_dict(), weights)
    assert ending(copy, scans, results).startswith(f"error: the weights file {weights} is for another network than")
    assert not results.exists() or not list(results.iterdir())


@BUNDLES
def test_a_folder_for_results_that_is_a_file_is_named(root: Path, tmp_path: Path) -> None:
    scans = load_tiny(root.name).infer(tmp_path / "data", root / "models/model.pt")["dataset_dir"]
    taken = tmp_path / "taken"
    taken.write_text("mine")
    assert str(taken) in ending(root, scans, taken)
    assert taken.read_text() == "mine"


@BUNDLES
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("config", ["train.json", "evaluate.json"])
def test_a_folder_without_data_is_named_and_nothing_is_written(root: Path, tmp_path: Path, config: str) -> None:
    data, results = tmp_path / "data", tmp_path / "results"
    settings = {"bundle_root": str(root), "dataset_dir": str(data), "output_dir": str(results), "device": "cpu"}
    for there in (False, True):
        if there:
            data.mkdir()
        with pytest.raises(RuntimeError) as stopped:
            run(config_file=str(root / "configs" / config), logging_file=False, **settings)  # type: ignore[arg-type]
        assert str(data) in str(sentence_of(stopped.value))
    assert not results.exists()


@BUNDLES
def test_workflows_end_in_a_sentence_on_the_command_line(root: Path) -> None:
    """All but the claims, which are for programmers; a file without ``initialize`` has that of the file below it."""
    for path in sorted((root / "configs").glob("*.json")):
        config = json.loads(path.read_text())
        if "run" in config and "bundle_root" in config and path.name != "claims.json":
            assert config["initialize"][0] == "$errors_as_sentences()", path.name
        if path.name == "multi_gpu_train.json":
            assert config["initialize"][0] == "$errors_as_sentences()"
