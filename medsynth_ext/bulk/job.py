"""A run of bulk generation: what is made, and how the folder says so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from medsynth_ext.bulk.sample import SampleSource
from medsynth_ext.claims.machine import version_record
from medsynth_ext.data.files import write_json

__all__ = ["Job", "JobError", "begin"]

_LIMITS = {"count": (1, 2**32), "shard_size": (1, 2**32), "seed": (0, 2**31 - 1), "threads": (1, 1024)}


class JobError(ValueError):
    """A run that cannot be begun or gone on with; the message is one sentence for the user."""


@dataclass(frozen=True)
class Job:
    """``count`` samples in shards of ``shard_size``; goes to other processes as JSON.

    Args:
        config: a MONAI configuration whose ``source`` is a :class:`SampleSource`; its ``initialize`` is run before.
        out: output folder, the same one for all processes.
        count: number of samples.
        seed: of all of them.
        shard_size: samples in a shard, the last one may have fewer.
        threads: of every process. Some sums of PyTorch depend on their number, so it is part of what is made.

    Raises:
        JobError: for a number out of range.
    """

    config: Mapping[str, Any] = field(repr=False)
    out: str
    count: int
    seed: int = 0
    shard_size: int = 16
    threads: int = 1

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise JobError(f"{name} must be a whole number from {low} to {high}, got {value!r}")

    @property
    def folder(self) -> Path:
        """Output folder."""
        return Path(self.out)

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.count // self.shard_size)

    def numbers(self, shard: int) -> range:
        """Samples of a shard."""
        return range(shard * self.shard_size, min((shard + 1) * self.shard_size, self.count))

    def to_json(self) -> str:
        """For another process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """From another process."""
        return cls(**json.loads(text))

    @cached_property
    def source(self) -> SampleSource:
        """The generator, built on first use.

        Raises:
            JobError: when the configuration has none.
        """
        torch.set_num_threads(self.threads)
        parser = ConfigParser(dict(self.config))
        if "source" not in parser:
            raise JobError("the configuration has no source to generate from")
        parser.get_parsed_content("initialize", default=None)
        return parser.get_parsed_content("source")

    @cached_property
    def plan(self) -> dict[str, Any]:
        """What the files depend on, as JSON: equal plans make equal files."""
        numbers = {"seed": self.seed, "count": self.count, "shard_size": self.shard_size, "threads": self.threads}
        return {"source": self.source.describe(), **numbers, "software": version_record()}


def begin(job: Job) -> None:
    """Write ``plan.json`` where nothing was made yet, or see that the folder's plan is this one.

    Raises:
        JobError: when the folder holds something else.
    """
    path = job.folder / "plan.json"
    there = sorted(p.name for p in job.folder.iterdir() if not p.name.startswith(".") and p != path)
    if path.is_file() and there:
        check_plan(job)
    elif there:
        raise JobError(f"{job.folder} holds other files ({there[0]}); choose an empty folder")
    else:
        write_json(path, job.plan)


def check_plan(job: Job) -> None:
    """See that this process would make what the folder's plan says.

    Raises:
        JobError: naming the first thing that differs.
    """
    path = job.folder / "plan.json"
    if not path.is_file():
        raise JobError(f"{path} is not there: every worker must see the output folder under the same path")
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(there, dict):
            raise ValueError(f"an object was wanted, got {type(there).__name__}")
    except (OSError, ValueError) as error:
        raise JobError(f"{path} is no plan of generated volumes ({error}); choose another folder") from error
    wanted = json.loads(json.dumps(job.plan))
    if difference := _difference(there, wanted):
        name, old, new = difference
        raise JobError(
            f"{job.folder} holds a run with another configuration: {name} is {_short(old)} there and {_short(new)} "
            "here; choose another folder or the same configuration"
        )


def _difference(there: Any, here: Any, name: str = "") -> tuple[str, Any, Any] | None:
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted({*there, *here}):
            inner = f"{name}.{key}" if name else key
            if found := _difference(there.get(key), here.get(key), inner):
                return found
        return None
    return None if there == here else (name, there, here)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
