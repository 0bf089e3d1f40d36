"""Build, test, measure and train on a GPU machine without a network; called by gpu_check.sh.

    tools/gpu_check.sh [OUT] [--minutes M] [--labels-dir DIR] [--set KEY=VALUE ...]

Stages, in order: wheels (those in .whl/ beside the sources, for packages the machine lacks), build, tests, benchmarks,
generator, training. Each writes its results at once; one that fails does not stop the next. OUT gets status.json,
report.md, log.txt, tests.xml, benchmarks.json, generator.json, model.pt and loss.csv; the rest stays in --work. A
second call with the same --work goes on with the training where the first stopped. --device cpu rehearses all of it at
small sizes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gpu_report import read_benchmarks, read_tests, read_training, report

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "bundles" / "synthseg_brain_segmentation"
STAGES = ("wheels", "build", "tests", "benchmarks", "generator", "training")
LIMITS_S = {"wheels": 120, "build": 400, "tests": 900, "benchmarks": 900, "generator": 300}
NEEDED = ("torch", "numpy", "scipy", "monai", "ignite", "nibabel", "pytest", "ninja", "pybind11", "setuptools", "tqdm")
COPY_EVERY_S = 10


class Stopped(BaseException):
    """The program was asked to stop."""


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=Path, default=ROOT / "build" / "gpu_check" / "out", help="results")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "gpu_check", help="build and training files")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--minutes", type=float, default=15.0, help="length of the training")
    parser.add_argument("--labels-dir", type=Path, default=os.environ.get("MEDSYNTH_LABELS"), help="or MEDSYNTH_LABELS")
    parser.add_argument("--weights", type=Path, default=BUNDLE / "models" / "model.pt", help="weights to start from")
    parser.add_argument("--only", default=",".join(STAGES), help="stages, separated by commas")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the benchmarks")
    parser.add_argument("--families", default="gmm,diffeo,blur,generator", help="families of the benchmarks")
    parser.add_argument("--size", type=int, help="edge of the volumes; 160, on the CPU 32")
    parser.add_argument(
        "--tests", action="append", default=[], metavar="ARG", help="arguments of pytest instead of -m gpu"
    )
    parser.add_argument("--deadline", type=float, metavar="SECONDS", help="stop everything after this time")
    parser.add_argument(
        "--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="training setting"
    )
    options = parser.parse_args(arguments)
    options.only = [name for name in options.only.split(",") if name]
    unknown = [name for name in options.only if name not in STAGES]
    if unknown:
        parser.error(f"--only must name some of {', '.join(STAGES)}, got {unknown[0]}")
    if not options.minutes > 0:
        parser.error(f"--minutes must be positive, got {options.minutes}")
    options.size = options.size or (160 if options.device == "cuda" else 32)
    options.out, options.work = options.out.resolve(), options.work.resolve()
    return options


def write_text(path: Path, text: str) -> None:
    """Write in one piece, so that a stopped run leaves a complete file."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


class Check:
    """One run: its options, the state of every stage, and the child process at work."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.begun = time.monotonic()
        self.child: subprocess.Popen[bytes] | None = None
        self.stages: dict[str, dict[str, Any]] = {name: {"state": "waiting"} for name in options.only}
        self.machine: dict[str, Any] = {}
        options.out.mkdir(parents=True, exist_ok=True)
        options.work.mkdir(parents=True, exist_ok=True)
        self.log = options.out / "log.txt"

    def left_s(self) -> float:
        """Seconds until the deadline; infinite without one."""
        return (
            float("inf") if self.options.deadline is None else self.options.deadline - (time.monotonic() - self.begun)
        )

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """What children see: our own build first, then the sources, then the carried packages."""
        own = [p for p in (self.options.work / "lib", ROOT, self.options.work / "site") if p.exists()]
        paths = [str(p) for p in own] + [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
        # Without the safe path `python -m` would put the sources before our own build.
        fixed = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
        return {**os.environ, **fixed, **(extra or {})}

    def call(self, arguments: Sequence[str | Path], limit_s: float, **extra: str) -> tuple[int, str]:
        """Run a program with its output in the log; its exit status and output. Past the limit it is interrupted.

        Raises:
            TimeoutError: when it did not end within the limit.
        """
        limit_s = min(limit_s, self.left_s() - 10)
        if limit_s <= 0:
            raise TimeoutError("no time was left before the deadline")
        command = [str(a) for a in arguments]
        with self.log.open("ab") as log:
            log.write(f"\n$ {' '.join(command)}\n".encode())
            log.flush()
            start = log.tell()
            self.child = subprocess.Popen(
                command, cwd=ROOT, env=self.environment(extra), stdout=log, stderr=log, start_new_session=True
            )
            try:
                status = self.child.wait(limit_s)
            except subprocess.TimeoutExpired:
                raise TimeoutError(f"stopped after {limit_s:.0f} s") from None
            finally:
                self.end_child()
                self.child = None
        with self.log.open("rb") as log:
            log.seek(start)
            return status, log.read().decode(errors="replace")

    def python(self, arguments: Sequence[str | Path], limit_s: float, **extra: str) -> tuple[int, str]:
        """The same for this interpreter."""
        return self.call([sys.executable, *arguments], limit_s, **extra)

    def end_child(self) -> None:
        """Interrupt the child and what it started, so that it writes what it has; after 15 s kill it."""
        child = self.child
        if child is None or child.poll() is not None:
            return
        for number, patience in ((signal.SIGINT, 15), (signal.SIGKILL, 5)):
            try:
                os.killpg(child.pid, number)
                child.wait(patience)
                return
            except ProcessLookupError:
                return
            except subprocess.TimeoutExpired:
                continue

    def save(self) -> None:
        """Write the state and the table."""
        data = {"machine": self.machine, "stages": self.stages}
        write_text(self.options.out / "status.json", json.dumps(data, indent=2, ensure_ascii=False) + "\n")
        write_text(self.options.out / "report.md", report(self.machine, self.stages))

    def run(self, stages: Mapping[str, Callable[[Check], dict[str, Any]]]) -> bool:
        """Run the wanted stages; whether all of them succeeded."""
        try:
            self.machine = machine_facts(self)
            for name in self.options.only:
                self.stages[name] = {"state": "running"}
                self.save()
                print(f"{name} ...", flush=True)
                begun = time.monotonic()
                self.stages[name] = self._stage(stages[name]) | {"seconds": round(time.monotonic() - begun, 1)}
                self.save()
                print(f"{name}: {self.stages[name]['state']} ({self.stages[name]['seconds']:.0f} s)", flush=True)
        except Stopped:
            for record in self.stages.values():
                if record["state"] in ("running", "waiting"):
                    record["state"] = "stopped" if record["state"] == "running" else "not begun"
            collect_partial(self)
        self.save()
        return all(record["state"] == "done" for record in self.stages.values())

    def _stage(self, stage: Callable[[Check], dict[str, Any]]) -> dict[str, Any]:
        """One stage: whatever goes wrong in it is its result, and the next one runs."""
        try:
            return {"state": "done"} | stage(self)
        except TimeoutError as error:
            return {"state": "timed out", "reason": str(error)} | partial_figures(self, stage.__name__)
        except Exception as error:  # the other stages must run
            return {"state": "failed", "reason": f"{type(error).__name__}: {error}"}


def machine_facts(check: Check) -> dict[str, Any]:
    """GPU, versions, and what is missing; read in a process of its own, so that CUDA is not opened here."""
    code = (
        "import json, platform, torch\n"
        "c = torch.cuda.is_available()\n"
        "print('FACTS' + json.dumps({'python': platform.python_version(), 'torch': torch.__version__,\n"
        "  'gpu': torch.cuda.get_device_name(0) if c else None,\n"
        "  'capability': list(torch.cuda.get_device_capability(0)) if c else None}))\n"
    )
    status, text = check.python(["-c", code], 180)
    lines = [line for line in text.splitlines() if line.startswith("FACTS")]
    if status != 0 or not lines:
        return {"python": sys.version.split()[0], "torch": None, "gpu": None, "capability": None}
    return json.loads(lines[-1].removeprefix("FACTS"))


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
    figures = read_tests(xml)
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
    figures = json.loads(out.read_text()) if out.exists() else {}
    return (
        figures if status == 0 else figures | {"state": "failed", "reason": f"ended with status {status}, see log.txt"}
    )


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


def partial_figures(check: Check, stage: str) -> dict[str, Any]:
    """What an interrupted stage had written."""
    if stage == "tests":
        return read_tests(check.options.out / "tests.xml")
    if stage == "benchmarks":
        return benchmark_figures(check)
    if stage == "generator" and (check.options.out / "generator.json").exists():
        return json.loads((check.options.out / "generator.json").read_text())
    if stage == "training":
        return read_training(check.options.work / "training", None) | {"from": "see status of the first run"}
    return {}


def collect_partial(check: Check) -> None:
    """After a stop: copy and note what the running stage left."""
    for name, record in check.stages.items():
        if record["state"] == "stopped":
            if name == "training":
                copy_results(check.options.work / "training", check.options.out)
            record |= {k: v for k, v in partial_figures(check, name).items() if k != "state"}


def main() -> int:
    """Run; 0 when every stage succeeded."""
    options = parse_arguments()

    def stop(number: int, frame: object) -> None:
        for other in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(other, signal.SIG_IGN)  # what follows takes seconds and must not be cut short
        raise Stopped

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    check = Check(options)
    stages = {"wheels": wheels, "build": build, "tests": tests, "benchmarks": benchmarks}
    succeeded = check.run(stages | {"generator": generator, "training": training})
    print(f"\n{(options.out / 'report.md').read_text()}\nwritten to {options.out}")
    return 0 if succeeded else 1


if __name__ == "__main__":
    sys.exit(main())
