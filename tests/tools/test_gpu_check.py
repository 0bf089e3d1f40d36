"""The one command for a GPU machine, rehearsed on the CPU: every stage leaves its results, whatever the others do."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
SMALL_TRAINING = [
    "crop_size=[16,16,16]",
    "features=[4,8]",
    "levels=2",
    "samples_per_epoch=3",
    "val_maps=1",
    "val_images_per_map=1",
]


@pytest.fixture
def gpu_check(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The program as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    yield importlib.import_module("gpu_check")
    for name in ("gpu_check", "gpu_run", "gpu_stages", "gpu_report"):
        sys.modules.pop(name, None)


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    """Three small label maps of labels that the bundle knows."""
    folder = tmp_path / "maps"
    folder.mkdir()
    known = json.loads((ROOT / "bundles/synthseg_brain_segmentation/configs/labels.json").read_text())
    values = np.array(known["generation_labels"])
    for i in range(3):
        blocks = np.random.default_rng(i).choice(values, (5, 5, 5)).repeat(5, 0).repeat(5, 1).repeat(5, 2)
        image = nib.Nifti1Image(blocks.astype(np.int16), np.eye(4))
        image.header.set_xyzt_units("mm")
        nib.save(image, folder / f"map_{i}.nii.gz")
    return folder


def command(out: Path, work: Path, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """The call and its environment; torch.compile is off, it takes minutes for what a rehearsal does not need."""
    environment = {**os.environ, "PYTHON": sys.executable, "TORCHDYNAMO_DISABLE": "1"}
    environment.pop("MEDSYNTH_LABELS", None)
    script = str(ROOT / "tools" / "gpu_check.sh")
    return ["bash", script, str(out), "--work", str(work), "--device", "cpu", *arguments], environment


def run(out: Path, work: Path, *arguments: str, timeout_s: float = 500) -> tuple[int, dict, str]:
    """Exit status, status.json and the printed text."""
    call, environment = command(out, work, *arguments)
    done = subprocess.run(call, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False)
    return done.returncode, json.loads((out / "status.json").read_text())["stages"], done.stdout + done.stderr


@pytest.mark.rehearsal
def test_rehearsal_runs_every_stage_but_the_build(tmp_path: Path, maps: Path) -> None:
    out, work = tmp_path / "out folder", tmp_path / "work"
    settings = [a for s in SMALL_TRAINING for a in ("--set", s)]
    status, stages, text = run(
        out,
        work,
        *("--only", "wheels,tests,benchmarks,generator,training", "--families", "gmm", "--size", "16", "--rounds", "1"),
        *("--tests=tests/ops/test_map_labels.py", "--tests=-k=not gpu"),
        *("--minutes", "0.05", "--labels-dir", str(maps), "--weights", str(tmp_path / "none.pt"), *settings),
    )
    log = (out / "log.txt").read_text()[-3000:]
    assert {name: record["state"] for name, record in stages.items()} == dict.fromkeys(stages, "done"), log
    assert status == 0
    assert stages["tests"]["passed"] > 0
    assert stages["tests"]["failed"] == 0
    assert stages["benchmarks"]["median_ms"]["gmm"]
    assert [b["batch"] for b in stages["generator"]["batches"]] == [1, 2]
    assert all(b["samples_per_second"] > 0 for b in stages["generator"]["batches"])
    assert stages["training"]["from"] == "random weights"
    assert np.isfinite([stages["training"]["loss_before"], stages["training"]["loss_after"]]).all()
    names = {
        "status.json",
        "report.md",
        "log.txt",
        "tests.xml",
        "benchmarks.json",
        "generator.json",
        "model.pt",
        "loss.csv",
    }
    assert {path.name for path in out.iterdir()} == names | {"model.pt", "loss.csv"}
    assert "| training | done |" in text
    assert "at least 12 /s" in text


@pytest.mark.rehearsal
@pytest.mark.timeout(2400)
def test_build_goes_to_the_work_folder_and_is_the_one_that_is_used(tmp_path: Path) -> None:
    if sys.version_info < (3, 11):
        pytest.skip("a build of its own needs Python 3.11")
    out, work = tmp_path / "out", tmp_path / "work"
    before = {p: p.stat().st_mtime_ns for p in (ROOT / "medsynth_ext").glob("*.so")}
    # On a processor core that others use too, a build of all operators outlasts the limit for a GPU machine.
    arguments = ("--only", "build,tests", "--tests=tests/ops/test_map_labels.py", "--patience=5")
    status, stages, _ = run(out, work, *arguments, timeout_s=2300)
    assert status == 0, (out / "log.txt").read_text()[-3000:]
    assert stages["build"]["build_info"]["cuda"] is False
    assert (work / "lib" / "medsynth_ext" / "libmedsynth_ops.so").is_file()
    assert {p: p.stat().st_mtime_ns for p in (ROOT / "medsynth_ext").glob("*.so")} == before


def test_failing_stage_does_not_stop_the_next(tmp_path: Path) -> None:
    failing = tmp_path / "test_wrong.py"
    failing.write_text("def test_right():\n    pass\n\ndef test_wrong():\n    assert 1 == 2\n")
    status, stages, text = run(tmp_path / "o", tmp_path / "w", "--only", "tests,training", f"--tests={failing}")
    assert status == 1
    assert (stages["tests"]["state"], stages["tests"]["passed"], stages["tests"]["failed"]) == ("failed", 1, 1)
    assert (
        stages["tests"]["failed_tests"] == ["test_wrong::test_wrong"]
        or "test_wrong" in stages["tests"]["failed_tests"][0]
    )
    assert stages["training"]["state"] == "failed"
    assert "MEDSYNTH_LABELS" in stages["training"]["reason"]
    assert "| tests | failed |" in text


def test_stop_keeps_what_the_running_stage_had(tmp_path: Path) -> None:
    waiting = tmp_path / "test_waiting.py"
    flag = tmp_path / "begun"
    waiting.write_text(
        f"import pathlib, time\n\ndef test_first():\n    pass\n\ndef test_second():\n"
        f"    pathlib.Path({str(flag)!r}).touch()\n    time.sleep(300)\n"
    )
    out = tmp_path / "o"
    call, environment = command(out, tmp_path / "w", "--only", "tests,generator", f"--tests={waiting}")
    child = subprocess.Popen(call, env=environment, stdout=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while not flag.exists() and time.monotonic() < end:
        time.sleep(0.2)
    child.send_signal(signal.SIGTERM)
    text, _ = child.communicate(timeout=60)
    stages = json.loads((out / "status.json").read_text())["stages"]
    assert child.returncode == 1
    assert stages["tests"]["state"] == "stopped"
    assert stages["tests"]["passed"] >= 1
    assert stages["generator"]["state"] == "not begun"
    assert "| tests | stopped |" in text


def test_deadline_interrupts_a_stage_and_skips_the_rest(tmp_path: Path) -> None:
    waiting = tmp_path / "test_waiting.py"
    waiting.write_text("import time\n\ndef test_long():\n    time.sleep(300)\n")
    begun = time.monotonic()
    arguments = ("--only", "tests,generator", f"--tests={waiting}", "--deadline", "40")
    status, stages, _ = run(tmp_path / "o", tmp_path / "w", *arguments)
    assert status == 1
    assert time.monotonic() - begun < 90
    assert stages["tests"]["state"] == "timed out"


def test_missing_package_is_named(gpu_check: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = sys.modules["gpu_stages"]
    monkeypatch.setattr(stages, "NEEDED", ("torch", "no_such_package_here"))
    monkeypatch.setattr(stages, "ROOT", tmp_path)
    options = argparse.Namespace(out=tmp_path / "o", work=tmp_path / "w", only=["wheels"], deadline=None)
    record = stages.wheels(gpu_check.Check(options))
    assert record["state"] == "failed"
    assert "no_such_package_here" in record["reason"]
    assert "torch" not in record["reason"]


def test_training_figures_are_means_of_the_first_and_last_losses(gpu_check: ModuleType, tmp_path: Path) -> None:
    rows = "".join(f"1,{i},0.1,{100 - i}\n" for i in range(1, 101))
    (tmp_path / "loss.csv").write_text("epoch,iteration,seconds,loss\n" + rows)
    (tmp_path / "epochs.json").write_text('[{"epoch": 1, "metrics": {"d": 0.1}}, {"epoch": 2, "metrics": {"d": 0.4}}]')
    figures = sys.modules["gpu_report"].read_training(tmp_path, None)
    assert figures["loss_before"] == pytest.approx(sum(range(80, 100)) / 20)
    assert figures["loss_after"] == pytest.approx(sum(range(20)) / 20)
    assert (figures["validation_first"], figures["validation_last"]) == ({"d": 0.1}, {"d": 0.4})


def test_report_marks_an_unmet_goal(gpu_check: ModuleType) -> None:
    def batch(rate: float) -> dict:
        return {"size": 160, "batch": 4, "samples_per_second": rate}

    stages = {"generator": {"state": "done", "seconds": 1.0, "batches": [batch(30.0), batch(700.0)]}}
    lines = sys.modules["gpu_report"].report({"gpu": "one", "torch": "2", "python": "3"}, stages).splitlines()
    assert [line.split("|")[-2].strip() for line in lines if "at least" in line] == ["yes", "**no**"]


def test_every_family_is_measured(gpu_check: ModuleType) -> None:
    families = importlib.import_module("benchmarks.__main__").FAMILIES
    assert gpu_check.parse_arguments([]).families.split(",") == list(families)


@pytest.mark.parametrize("arguments", [["--only", "build,nothing"], ["--minutes", "0"], ["--patience", "-1"]])
def test_wrong_argument_is_refused(gpu_check: ModuleType, arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        gpu_check.parse_arguments(arguments)


def test_shell_script_has_no_syntax_error_and_no_eval() -> None:
    script = ROOT / "tools" / "gpu_check.sh"
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    assert "eval" not in script.read_text()
    assert os.access(script, os.X_OK)
