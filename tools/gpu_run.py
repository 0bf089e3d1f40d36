"""One run of gpu_check.py: the processes it starts, their limits, and the state that is on disk at any time."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gpu_report import report

ROOT = Path(__file__).resolve().parents[1]


class Stopped(BaseException):
    """The program was asked to stop."""


class Stage(NamedTuple):
    """What a stage does, and what it leaves when it is interrupted; both give its figures."""

    run: Callable[[Check], dict[str, Any]]
    partial: Callable[[Check], dict[str, Any]]


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
        limit_s = min(limit_s * self.options.patience, self.left_s() - 10)
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

    def run(self, stages: Mapping[str, Stage]) -> bool:
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
            for name, record in self.stages.items():
                if record["state"] == "running":
                    self.stages[name] = stages[name].partial(self) | {"state": "stopped"}
                elif record["state"] == "waiting":
                    record["state"] = "not begun"
        self.save()
        return all(record["state"] == "done" for record in self.stages.values())

    def _stage(self, stage: Stage) -> dict[str, Any]:
        """One stage: whatever goes wrong in it is its result, and the next one runs."""
        try:
            return {"state": "done"} | stage.run(self)
        except TimeoutError as error:
            return stage.partial(self) | {"state": "timed out", "reason": str(error)}
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
