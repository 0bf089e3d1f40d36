"""Shards of generated volumes: each comes into the folder whole, by one rename, and once.

A process writes a shard into a folder of its own, ``.part-...``, and renames that to ``shard_NNNNN`` when all is in it.
A rename happens or does not, and none replaces a folder that has something in it. So a folder ``shard_NNNNN`` is
complete, whatever was killed when; and when two processes make the same shard, the second one's rename fails and what
it made is thrown away. That is all that correctness needs: who makes which shard is a matter of speed alone.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from functools import lru_cache
from pathlib import Path
from typing import Any

import nibabel as nib
import torch

from medsynth_ext.bulk.job import Job, JobError, check_plan
from medsynth_ext.bulk.sample import Volume
from medsynth_ext.data.files import OutputError
from medsynth_ext.data.nifti import nifti_image

__all__ = ["alone", "check_shards", "clean", "make_shard", "missing", "shard_path", "write_shard"]

_PART = ".part-"


def shard_path(folder: Path, shard: int) -> Path:
    """Folder of a shard; it is there if and only if the shard is complete."""
    return folder / f"shard_{shard:05d}"


def missing(job: Job) -> list[int]:
    """Shards that are still to be made."""
    return [shard for shard in range(job.shards) if not shard_path(job.folder, shard).is_dir()]


def write_shard(job: Job, shard: int, *, made: Callable[[], Any] | None = None) -> None:
    """Make a shard unless it is there.

    Args:
        job: the run.
        shard: its number.
        made: called after every sample.

    Raises:
        OutputError: when it cannot be written; nothing is left of it then.
    """
    target = shard_path(job.folder, shard)
    if target.is_dir():
        return
    torch.set_num_threads(job.threads)
    part = job.folder / f"{_PART}{target.name}-{uuid.uuid4().hex}"
    try:
        part.mkdir()
        samples = []
        for index in job.numbers(shard):
            samples.append(_write_sample(job, part, index))
            if made is not None:
                made()
        # No helper that makes missing folders: what was cleaned away must not come back with a part of the files.
        text = json.dumps({"shard": shard, "samples": samples}, indent=4, allow_nan=False)
        (part / "shard.json").write_text(text + "\n", encoding="utf-8")
        os.rename(part, target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # somebody else's rename was first
            raise OutputError(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


@lru_cache(maxsize=1)
def _known(text: str) -> Job:
    job = Job.from_json(text)
    check_plan(job)
    return job


def make_shard(text: str, shard: int) -> None:
    """:func:`write_shard` in another process, which builds its generator once and sees that it fits the folder's plan.

    Args:
        text: the job as JSON.
        shard: its number.
    """
    write_shard(_known(text), shard)


def _write_sample(job: Job, part: Path, index: int) -> dict[str, Any]:
    sample = job.source.make(index, seed=job.seed)
    width = max(6, len(str(job.count - 1)))
    files = [
        _write_volume(part / f"{index:0{width}d}_{name}.nii.gz", name, volume)
        for name, volume in sorted(sample.volumes.items())
    ]
    facts = {"facts": dict(sample.facts)} if sample.facts else {}
    return {"index": index, "seed": job.seed, "files": files, **facts}


def _write_volume(path: Path, name: str, volume: Volume) -> dict[str, Any]:
    image = nifti_image(volume.data, volume.dtype)
    nib.save(image, path)
    return {
        "volume": name,
        "path": path.name,
        "shape": list(image.shape),
        "spacing_mm": [round(float(s), 6) for s in image.header.get_zooms()],
        "dtype": str(image.get_data_dtype()),
        "bytes": path.stat().st_size,
        "sha256": _sha256(path),
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def clean(folder: Path) -> None:
    """Remove what killed processes left.

    Such a folder is renamed before it is emptied, so that a process that is alive after all cannot make a shard of what
    is left of it: its own rename fails.
    """
    for part in folder.glob(f"{_PART}*"):
        waste = folder / f".waste-{uuid.uuid4().hex}"
        try:
            os.rename(part, waste)
        except FileNotFoundError:
            continue
    for waste in folder.glob(".waste-*"):
        shutil.rmtree(waste, ignore_errors=True)


def check_shards(job: Job, *, checksums: bool = False) -> list[dict[str, Any]]:
    """What the shards that are there hold: a record per sample with the files' paths from the output folder.

    Args:
        job: the run.
        checksums: read every file and compare; else their sizes alone are compared.

    Raises:
        JobError: for a file that is missing or not what was written.
    """
    samples = []
    for shard in range(job.shards):
        place = shard_path(job.folder, shard)
        if not place.is_dir():
            continue
        try:
            found = json.loads((place / "shard.json").read_text(encoding="utf-8"))["samples"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise JobError(f"{place}/shard.json cannot be read ({error}); {_REMEDY}") from error
        for sample in found:
            for record in sample["files"]:
                _check_file(place / record["path"], record, checksums=checksums)
                record["path"] = f"{place.name}/{record['path']}"
        samples += found
    return samples


_REMEDY = "remove the shard's folder and run again"


def _check_file(path: Path, record: dict[str, Any], *, checksums: bool) -> None:
    if not path.is_file():
        raise JobError(f"{path} is missing; {_REMEDY}")
    if path.stat().st_size != record["bytes"]:
        raise JobError(f"{path} has {path.stat().st_size} bytes, {record['bytes']} were written; {_REMEDY}")
    if checksums and _sha256(path) != record["sha256"]:
        raise JobError(f"{path} is not what was written (its sha256 differs); {_REMEDY}")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep a second run out of the folder; the lock goes with the process, however it ends.

    Raises:
        JobError: when another run has it.
    """
    with (folder / ".lock").open("w") as file:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except OSError as error:
            raise JobError(f"another run is writing to {folder}; wait for it or choose another folder") from error
        yield
