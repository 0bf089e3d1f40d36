"""Commands of pages, run as they are written there: the first of every bundle's page and of README.md, on tiny scans,
and those that make phantoms, with fewer and smaller ones than they would make."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from bundle_workflows import load_tiny, one_thread
from doc_commands import load_config, options_of
from doc_pages import ROOT, Command, bundle_of, name, pages, shell_commands
from monai.bundle import run

# The names that pages give to what is the reader's: a folder of scans, and one for results.
SCANS, RESULTS = {"DIR", "SCANS"}, {"OUT", "RESULTS"}

# What makes the phantoms of a bundle's page few and small.
FEW: dict[str, dict[str, Any]] = {
    "adaptor_relation_heatmap_detection": {"sim": 1, "intraop": 1, "frames": 1},
    "adaptor_suture_heatmap_detection": {"sim": 1, "intraop": 1, "frames": 1},
    "fbpaug_ct_segmentation": {"cases": 1, "slices": 1, "size": 48, "views": 24},
    "fedsim_cardiac_ct_synthesis": {"cases": 1, "labelled": 1},
    "fewshot_dag_landmark_localization": {"labelled": 2, "unlabelled": 1, "size": 48},
    "frequency_supervised_mr_to_ct": {"cases": 1, "size": 24},
    "oneshot_landmark_detection": {"cases": 1, "size": [64, 64, 64]},
    "semipaired_mr_ct_translation": {"mr": 1, "ct": 1, "truth": 1, "size": 32, "slices": 1, "views": 24},
    "shape_consistent_ct_mr_translation": {"ct": 1, "mr": 1, "views": 24},
    "synthseg_heart_segmentation": {"cases": 1, "size": 32},
    "ultrasound_variational_style_transfer": {"count": 6, "size": [48, 48]},
}


def inference(page: Path) -> Command:
    """The first command of a page that runs an inference.json."""
    return next(c for c in shell_commands(page) if any(w.endswith("configs/inference.json") for w in c.words))


def tiny_scans(bundle: Path, folder: Path) -> Path:
    """A folder with one tiny scan of the kind that the bundle takes."""
    settings = load_tiny(bundle.name).infer(folder, bundle / "models/model.pt")
    return Path(settings["dataset_dir"])


def filled(command: Command, scans: Path, results: Path) -> list[str]:
    """The words of a command with the reader's folders put in."""
    known = dict.fromkeys(SCANS, str(scans)) | dict.fromkeys(RESULTS, str(results))
    return [known.get(word, word) for word in command.words]


def values_of(words: list[str]) -> dict[str, Any]:
    """The options of a command as the command line of MONAI reads them: literals, else text."""
    found = {}
    for key, (value,) in options_of(tuple(words)).items():
        try:
            found[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[key] = value
    return found


@pytest.mark.parametrize("page", [page for page in pages() if bundle_of(page)], ids=name)
def test_the_first_command_of_a_bundle_runs_as_written(page, tmp_path, monkeypatch) -> None:
    command = inference(page)
    scans, results = tiny_scans(command.folder, tmp_path / "data"), tmp_path / "results"
    words = filled(command, scans, results)
    assert words[:4] == ["python", "-m", "monai.bundle", "run"]
    monkeypatch.chdir(command.folder)
    before = sorted(command.folder.rglob("*"))
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run(**values_of(words[4:]), logging_file=False, device="cpu")
    assert [path for path in results.iterdir() if path.name.startswith("one")]
    assert sorted(command.folder.rglob("*")) == before


@pytest.mark.parametrize("bundle", FEW)
def test_the_phantoms_of_a_bundle_are_made_as_written(bundle, tmp_path, monkeypatch) -> None:
    page = ROOT / "bundles" / bundle / "docs/README.md"
    command = next(c for c in shell_commands(page) if "configs/phantoms.json" in c.words)
    values = values_of(list(command.words[4:]))
    parser = load_config((command.folder / values["config_file"],))
    assert FEW[bundle].keys() <= parser.get().keys()
    monkeypatch.chdir(command.folder)
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run(**{**values, **FEW[bundle], "output_dir": str(tmp_path / values["output_dir"])}, logging_file=False)
    assert [path for path in (tmp_path / values["output_dir"]).rglob("*") if path.suffix in (".gz", ".png")]


def test_every_bundle_with_phantoms_is_among_them() -> None:
    assert {path.parents[1].name for path in ROOT.glob("bundles/*/configs/phantoms.json")} == FEW.keys()


def test_the_command_of_the_readme_runs_as_written(tmp_path: Path) -> None:
    command = inference(ROOT / "README.md")
    bundle = ROOT / options_of(command.words)["bundle_root"][0]
    scans = tiny_scans(bundle, tmp_path / "data")
    words = [sys.executable, *filled(command, scans, tmp_path / "results")[1:]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(words, cwd=command.folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "results/one_seg.nii.gz").is_file()
    assert not (command.folder / "bundles/eval").exists()
