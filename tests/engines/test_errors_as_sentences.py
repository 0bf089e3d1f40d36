"""What a run on the command line says at its end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_workflows import load_tiny
from check_bundles import REPOSITORY
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset

from medsynth_ext import ops
from medsynth_ext.data import ScanError
from medsynth_ext.data.pairs import require_pairs
from medsynth_ext.engines import errors_as_sentences, sentence_of

BUNDLE = REPOSITORY / "bundles/adaptor_suture_heatmap_detection"


def refuse(_: Any) -> None:
    raise ScanError("a.nii must be a scan, got a poem")


def error_of(call: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011  the kinds differ
        call()
    return caught.value


def test_a_sentence_is_found_below_all_that_monai_wraps_around_it() -> None:
    parser = ConfigParser({"data": "$monai.data.Dataset([1], refuse)", "run": "$@data[0]"}, globals={"refuse": refuse})
    error = error_of(lambda: parser.get_parsed_content("run"))
    assert "Failed to evaluate" in str(error)
    assert sentence_of(error) == "a.nii must be a scan, got a poem"


def test_a_sentence_is_found_in_what_a_worker_process_says() -> None:
    loader = DataLoader(Dataset([1], refuse), num_workers=1)
    assert sentence_of(error_of(lambda: next(iter(loader)))) == "a.nii must be a scan, got a poem"


def test_what_the_package_asks_of_the_users_data_is_a_sentence() -> None:
    assert str(sentence_of(error_of(lambda: require_pairs([], "DIR")))).startswith("DIR/images and DIR/labels hold 0")
    assert sentence_of(error_of(lambda: Path("nowhere").read_text())) == "nowhere: No such file or directory"


@pytest.mark.parametrize(
    "call",
    [
        lambda: int("three"),  # a built-in's ValueError
        lambda: torch.zeros(2).reshape(3),
        lambda: {}["key"],
        lambda: ops.gaussian_blur(torch.zeros(1, 1, 4, 4), -1.0),  # arguments of an operator
        lambda: ConfigParser({"run": "$1 / 0"}).get_parsed_content("run"),
    ],
)
def test_the_errors_of_a_program_are_none(call: Callable[[], object]) -> None:
    assert sentence_of(error_of(call)) is None


def test_another_program_than_monais_is_left_alone() -> None:
    before = sys.excepthook
    errors_as_sentences()
    assert sys.excepthook is before


def train(folder: Path, config: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """A training on the command line, in the folder ``out``."""
    out = folder / "out"
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(BUNDLE / "configs" / config)]
    more = {"bundle_root": BUNDLE, "output_dir": out, "ckpt_dir": out, "device": "cpu", **settings}
    command += [word for key, value in more.items() for word in (f"--{key}", str(value))]
    paths = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_a_training_with_a_folder_that_is_empty_ends_in_one_sentence_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    done = train(tmp_path, "train.json", dataset_dir=tmp_path / "data")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: {tmp_path / 'data'} holds 0 labelled frames")
    assert "Traceback" not in done.stderr + done.stdout
    assert not (tmp_path / "out").exists()


def test_a_training_that_meets_bad_labels_ends_in_one_sentence_below_its_bar(tmp_path: Path) -> None:
    settings = load_tiny(BUNDLE.name).train(tmp_path / "data")
    labels = sorted((tmp_path / "data").rglob("point_labels/*.json"))
    for path in labels:  # which one is met first is a matter of the seed
        path.write_text('{"points": 3}')
    done = train(tmp_path, "train.json", **settings)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith("error: ")
    assert any(str(path) in last for path in labels)
    assert "Traceback" not in done.stderr + done.stdout
    assert not [path for path in (tmp_path / "out").rglob("*") if path.suffix == ".pt" or path.name.startswith(".")]
