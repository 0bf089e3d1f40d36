"""The stages of gpu_check.py; each runs programs of this repository and gives its figures."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gpu_report import read_benchmarks, read_tests, read_training
from gpu_run import ROOT, Check, Stage

BUNDLE = ROOT / "bundles" / "synthseg_brain_segmentation"
LIMITS_S = {"wheels": 120, "build": 400, "tests": 900, "benchmarks": 900, "generator": 300}
NEEDED = ("torch", "numpy", "scipy", "monai", "ignite", "nibabel", "pytest", "ninja", "pybind11", "setuptools", "tqdm")
COPY_EVERY_S = 10


def wheels(check: Check) -> dict[str, Any]:
    """Install the carried packages into the work folder."""
    found = sorted((ROOT / ".whl").glob("*.whl"))
    site = check.options.work / "site"
    if found:
        pip = ["-m", "pip", "install", "-q", "--no-index", "--no-deps", "--upgrade", "--target", site]
        status, _ = check.python([*pip, *found], LIMITS_S["wheels"])
        if status != 0:
            return {"state": "failed", "reason": "pip could not install .whl/*.whl, see log.txt"}
    sys.path.append(str(site))
    missing = [name for name in NEEDED if find_spec(name) is None]
    record: dict[str, Any] = {"installed": len(found)}
    if missing:
        return record | {
            "state": "failed",
            "reason": f"missing here: {', '.join(missing)}; put their wheels into .whl/",
        }
    return record


def build(check: Check) -> dict[str, Any]:
    """Compile the operators into the work folder, for the GPU at hand only."""
    if sys.version_info < (3, 11):
        return {"state": "failed", "reason": f"Python 3.11 or later is wanted here, got {sys.version.split()[0]}"}
    work, cuda = check.options.work, check.options.device == "cuda"
    if cuda and not check.machine.get("capability"):
        return {"state": "failed", "reason": "torch sees no CUDA device"}
    extra = {"MEDSYNTH_CUDA": "1" if cuda else "0"}
    if cuda:
        extra["MEDSYNTH_CUDA_ARCHS"] = os.environ.get("MEDSYNTH_CUDA_ARCHS") or "".join(
            map(str, check.machine["capability"])
        )
    shutil.rmtree(work / "lib", ignore_errors=True)
    command = ["setup.py", "-q", "build", "--build-lib", work / "lib", "--build-temp", work / "temp"]
    status, _ = check.python(command, LIMITS_S["build"], **extra)
    if status != 0:
        shutil.rmtree(work / "lib", ignore_errors=True)
        return {"state": "failed", "reason": f"setup.py ended with status {status}, see log.txt", "archs": extra}
    code = "import json, medsynth_ext as m; print('INFO' + json.dumps([m.__file__, m.build_info()]))"
    status, text = check.python(["-c", code], 120)
    lines = [line for line in text.splitlines() if line.startswith("INFO")]
    if status != 0 or not lines:
        return {"state": "failed", "reason": "the built package could not be imported, see log.txt"}
    place, info = json.loads(lines[-1].removeprefix("INFO"))
    if Path(place).is_relative_to(work) and bool(info["cuda"]) == cuda:
        return {"build_info": info}
    return {
        "state": "failed",
        "reason": f"wanted a build with cuda={cuda} in {work}, got {place} with cuda={info['cuda']}",
    }


def tests(check: Check) -> dict[str, Any]:
    """The tests that compare the GPU with the CPU; in a rehearsal the quick tests of the operators."""
    wanted = check.options.tests or (
        ["-m", "gpu", "tests"] if check.options.device == "cuda" else ["-m", "not gpu and not slow", "tests/ops"]
    )
    xml = check.options.out / "tests.xml"
    xml.unlink(missing_ok=True)
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={xml}", *wanted]
    status, _ = check.python(command, LIMITS_S["tests"])
    figures = test_figures(check)
    if status == 0 and figures.get("passed"):
        return figures
    reason = (
        "no test was found"
        if status == 5
        else "no test passed"
        if status == 0
        else f"pytest ended with status {status}"
    )
    return figures | {"state": "failed", "reason": reason}


def test_figures(check: Check) -> dict[str, Any]:
    """What pytest has written."""
    return read_tests(check.options.out / "tests.xml")


def benchmarks(check: Check) -> dict[str, Any]:
    """All benchmarks on the device; what is measured so far is in the file even when it is stopped."""
    options = check.options
    folder = options.work / "benchmarks"
    found = folder / f"benchmarks_{options.device}.json"
    found.unlink(missing_ok=True)
    command: list[str | Path] = ["-m", "benchmarks", "--device", options.device, "--size", str(options.size)]
    command += [
        "--only",
        options.families,
        "--rounds",
        str(options.rounds),
        "--out",
        folder,
        "--docs",
        folder / "benchmarks.md",
    ]
    try:
        status, _ = check.python(command, LIMITS_S["benchmarks"])
    finally:
        figures = benchmark_figures(check)
    if status == 0 and figures:
        return figures
    reason = (
        "a result was wrong, see log.txt" if status == 1 and figures else f"ended with status {status}, see log.txt"
    )
    return figures | {"state": "failed", "reason": reason}


def benchmark_figures(check: Check) -> dict[str, Any]:
    """What the benchmarks have written so far; their file is copied to OUT."""
    found = check.options.work / "benchmarks" / f"benchmarks_{check.options.device}.json"
    if not found.exists():
        return {}
    shutil.copyfile(found, check.options.out / "benchmarks.json")
    return read_benchmarks(found)


def generator(check: Check) -> dict[str, Any]:
    """Pairs a second for three batch sizes, and the generator against the CPU."""
    options = check.options
    out = options.out / "generator.json"
    out.unlink(missing_ok=True)
    script = ROOT / "tools" / "profile_generator.py"
    command: list[str | Path] = [script, "--device", options.device, "--size", str(options.size), "--out", out]
    command += ["--batches", "1,4,8"] if options.device == "cuda" else ["--batches", "1,2", "--seconds", "0.5"]
    status, _ = check.python(command, LIMITS_S["generator"])
    figures = generator_figures(check)
    return (
        figures if status == 0 else figures | {"state": "failed", "reason": f"ended with status {status}, see log.txt"}
    )


def generator_figures(check: Check) -> dict[str, Any]:
    """What the generator's profile has written."""
    out = check.options.out / "generator.json"
    return json.loads(out.read_text()) if out.exists() else {}


def training(check: Check) -> dict[str, Any]:
    """Train from the shipped weights; new weights and the losses are copied to OUT while it runs."""
    options = check.options
    if options.labels_dir is None:
        return {"state": "failed", "reason": "no label maps: give --labels-dir or set MEDSYNTH_LABELS"}
    minutes = min(options.minutes, (check.left_s() - 90) / 60)
    if minutes <= 0:
        raise TimeoutError("no time was left before the deadline")
    folder = options.work / "training"
    command: list[str | Path] = [ROOT / "tools" / "train_weights.py", BUNDLE, "--labels-dir", options.labels_dir]
    command += ["--minutes", f"{minutes:.3f}", "--out", folder]
    start = options.weights if options.weights.is_file() else None
    command += ["--from", start] if start else []
    for setting in options.settings:
        command += ["--set", setting]
    finished = threading.Event()
    copier = threading.Thread(target=keep_copying, args=(folder, options.out, finished), daemon=True)
    copier.start()
    status = None
    try:
        # The training ends with an epoch, so it may need more than its minutes.
        status, text = check.python(command, minutes * 60 + 600)
    finally:
        finished.set()
        copier.join()
        copy_results(folder, options.out)
        figures = read_training(folder, start)
    if status == 0:
        return figures
    last = (text.strip().splitlines() or ["no output"])[-1][:300]
    return figures | {"state": "failed", "reason": f"ended with status {status}: {last}"}


def keep_copying(folder: Path, out: Path, finished: threading.Event) -> None:
    """Copy results as they appear."""
    while not finished.wait(COPY_EVERY_S):
        copy_results(folder, out)


def copy_results(folder: Path, out: Path) -> None:
    """The weights and the losses, in one piece each."""
    for name in ("model.pt", "loss.csv"):
        if (folder / name).exists():
            part = out / f"{name}.part"
            shutil.copyfile(folder / name, part)
            os.replace(part, out / name)


def training_figures(check: Check) -> dict[str, Any]:
    """What an interrupted training has written; its results are copied to OUT."""
    folder = check.options.work / "training"
    copy_results(folder, check.options.out)
    return read_training(folder, None) | {"from": "see status of the first run"}


def no_figures(check: Check) -> dict[str, Any]:
    """Of a stage that writes none before its end."""
    return {}


STAGES = {
    "wheels": Stage(wheels, no_figures),
    "build": Stage(build, no_figures),
    "tests": Stage(tests, test_figures),
    "benchmarks": Stage(benchmarks, benchmark_figures),
    "generator": Stage(generator, generator_figures),
    "training": Stage(training, training_figures),
}
