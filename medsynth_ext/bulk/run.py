"""The whole run: begin or go on, make what is missing, write the manifest."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from medsynth_ext.bulk.crews import in_this_process, over_processes, over_ray
from medsynth_ext.bulk.job import Job, JobError, begin
from medsynth_ext.bulk.shards import alone, check_shards, clean, missing
from medsynth_ext.data.files import check_writable, write_json

__all__ = ["generate", "generated_samples"]


def generate(job: Job, *, workers: int = 1, ray: str | None = None, verify: bool = False) -> Path:
    """Make every shard that is not there yet, then ``manifest.json``; returns the manifest's path.

    It may be killed at any time and run again. Which way the shards are made changes nothing in any file.

    Args:
        job: what to make and where.
        workers: processes; with Ray shards at a time, where 0 means all of its cores.
        ray: address of a Ray cluster, ``local`` to begin one here; without Ray by default.
        verify: read all files and compare them with their checksums before the manifest is written.

    Raises:
        JobError: for a job that cannot be begun or gone on with.
        OutputError: when something cannot be written.
        ValueError: from the source, for wrong settings or files.
    """
    if workers < (1 if ray is None else 0):
        raise JobError(f"workers must be at least 1, got {workers}")
    _ = job.plan  # wrong settings or files end here, before anything is written
    check_writable(job.folder)
    with alone(job.folder):
        begin(job)
        clean(job.folder)
        done = check_shards(job)
        todo = missing(job)
        with (
            tqdm(total=job.count, initial=len(done), desc="generating", unit="sample") as bar,
            closing(_crew(job, todo, workers=workers, ray=ray, made=bar.update)) as shards,
        ):
            for shard in shards:
                if ray is not None or workers > 1:
                    bar.update(len(job.numbers(shard)))
        clean(job.folder)
        samples = check_shards(job, checksums=verify)
        write_json(job.folder / "manifest.json", {**job.plan, "samples": samples})
    return job.folder / "manifest.json"


def _crew(
    job: Job, shards: list[int], *, workers: int, ray: str | None, made: Callable[[], Any]
) -> Generator[int, None, None]:
    if ray is not None:
        return over_ray(job, shards, address=ray, workers=workers or None)
    if workers > 1:
        return over_processes(job, shards, workers=workers)
    return in_this_process(job, shards, made=made)


def generated_samples(folder: str | Path) -> list[dict[str, str]]:
    """A finished run's samples as MONAI's data sets take them: a path for each volume, such as ``image`` and ``label``.

    Raises:
        JobError: when the run is not finished.
    """
    path = Path(folder) / "manifest.json"
    if not path.is_file():
        raise JobError(f"{path} does not exist: the run is not finished, start it again")
    samples = json.loads(path.read_text(encoding="utf-8"))["samples"]
    return [{f["volume"]: str(Path(folder) / f["path"]) for f in sample["files"]} for sample in samples]
