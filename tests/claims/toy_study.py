"""A study that takes no time: every arm's figure is a number, and every call leaves a line in a log."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medsynth_ext.claims import Arm, Claim, Condition, Progress, Results, Study


@dataclass
class ToyStudy(Study):
    """Arms ``good`` and ``bad``; ``die_in`` kills the process in the middle of an arm and seed, ``fail_in`` raises."""

    log: str
    values: Mapping[str, float] = field(default_factory=lambda: {"good": 2.0, "bad": 1.0})
    die_in: str = ""
    fail_in: str = ""

    def arms(self) -> list[Arm]:
        return [Arm(name, f"value {value}", (0, 1), {"value": value}) for name, value in self.values.items()]

    def items(self, arms: list[Arm]) -> list[str]:
        return ["numbers"]

    def prepare(self, item: str, *, data: Path, progress: Progress) -> None:
        (data / item).write_text("10")

    def run(self, arm: Arm, seed: int, *, folder: Path, data: Path, progress: Progress) -> dict[str, Any]:
        progress(0.5, "half")
        with Path(self.log).open("a") as file:
            file.write(f"{arm.name} {seed}\n")
        if self.die_in == f"{arm.name} {seed}":
            (folder / "half.txt").write_text("not finished")
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fail_in == f"{arm.name} {seed}":
            raise ValueError("the toy broke")
        return {"score": float((data / "numbers").read_text()) * arm.settings["value"] + seed}

    def claims(self) -> list[Claim]:
        def better(results: Results) -> list[Condition]:
            gain = results.per_seed(lambda a, b: a["score"] - b["score"], "good", "bad")
            return [Condition("good minus bad", tuple(gain), ">=", 5.0)]

        def large(results: Results) -> list[Condition]:
            return [Condition("score of bad", tuple(results.per_seed(lambda a: a["score"], "bad")), ">=", 10.2)]

        return [
            Claim("1", "Good is better than bad.", ("good", "bad"), better),
            Claim("2", "Bad is large.", ("bad",), large, ("its weight: there is no scale",)),
        ]
