"""What the tests of bulk generation share: jobs of a counted source, and what a folder holds."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from medsynth_ext.bulk import Job


def config(**options: Any) -> dict[str, Any]:
    return {"source": {"_target_": "counted_source.CountedSource", **options}}


def job(out: Path, *, count: int = 7, shard_size: int = 3, seed: int = 5, threads: int = 1, **options: Any) -> Job:
    return Job(config(**options), str(out), count=count, seed=seed, shard_size=shard_size, threads=threads)


def contents(folder: Path) -> dict[str, str]:
    """Checksum of every file by its path; hidden files are the program's own."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != ".lock"]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def made(log: Path) -> list[tuple[int, int]]:
    """Process and index of every sample that was begun."""
    lines = log.read_text().splitlines() if log.is_file() else []
    return [(int(pid), int(index)) for pid, index in (line.split() for line in lines)]
