"""Measure how long a bundle's inference takes for one scan or frame, and write it to the bundle's docs/speed.json.

    python tools/measure_speed.py BUNDLE --dataset_dir DIR --what TEXT [--repeats 3] [--threads 1]

It runs configs/inference.json with the shipped weights on DIR: reading, network, post-processing, writing; building the
workflow and importing Python are not counted. The quickest of the repeats counts, per file of DIR. Wall time is that of
a machine that may have other work; processor time is what the same takes on a free core. TEXT says what DIR holds.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import io
import logging
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import torch
from monai.bundle import ConfigWorkflow
from PIL import Image

from medsynth_ext.claims.machine import machine_record, version_record
from medsynth_ext.data.files import write_json
from medsynth_ext.data.scans import SCAN_SUFFIXES

PICTURES = (".png", ".jpg", ".jpeg")


def input_sizes(folder: Path) -> list[list[int]]:
    """Size of every scan or frame in a folder, sub-folders too where frames lie.

    Raises:
        ValueError: when there is none, or they differ.
    """
    sizes = []
    for path in sorted(folder.rglob("*")):
        if path.name.lower().endswith(SCAN_SUFFIXES):
            sizes.append([int(n) for n in nib.load(path).shape])
        elif path.suffix.lower() in PICTURES:
            with Image.open(path) as picture:
                sizes.append([picture.height, picture.width])
    if not sizes or any(size != sizes[0] for size in sizes):
        raise ValueError(f"{folder} must hold scans or frames of one size, got {sizes[:3]}")
    return sizes


def run_once(bundle: Path, folder: Path, device: str) -> tuple[float, float]:
    """Wall and processor seconds of one run of the inference workflow over a folder."""
    with tempfile.TemporaryDirectory() as results:
        workflow = ConfigWorkflow(
            config_file=str(bundle / "configs/inference.json"),
            workflow_type="infer",
            logging_file=False,  # type: ignore[arg-type]
            bundle_root=str(bundle),
            dataset_dir=str(folder),
            output_dir=results,
            device=device,
        )
        workflow.initialize()
        wall, processor = time.perf_counter(), time.process_time()
        workflow.run()
        if device != "cpu":
            torch.cuda.synchronize()
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        workflow.finalize()
    return wall, processor


def measure(bundle: Path, folder: Path, *, what: str, repeats: int, device: str) -> dict[str, Any]:
    """The record of a bundle's speed.

    Raises:
        ValueError: when the folder holds no scans, or scans of different sizes.
    """
    sizes = input_sizes(folder)
    logging.disable(logging.WARNING)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        times = [run_once(bundle, folder, device) for _ in range(repeats)]
    return {
        "workflow": "inference.json",
        "input": what,
        "input_size": sizes[0],
        "files": len(sizes),
        "repeats": repeats,
        "wall_seconds_per_file": round(min(wall for wall, _ in times) / len(sizes), 4),
        "processor_seconds_per_file": round(min(processor for _, processor in times) / len(sizes), 4),
        "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "date": datetime.date.today().isoformat(),
        "versions": version_record(),
        "machine": machine_record(workers=0, device=device),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--dataset_dir", type=Path, required=True, help="folder of scans or frames of one size")
    parser.add_argument("--what", required=True, help="what the folder holds, in words")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        record = measure(
            options.bundle.resolve(),
            options.dataset_dir.resolve(),
            what=options.what,
            repeats=options.repeats,
            device=options.device,
        )
    except ValueError as error:
        sys.exit(f"error: {error}")
    write_json(options.bundle / "docs/speed.json", record)
    print(f"{options.bundle.name}: {record['processor_seconds_per_file']} s of processor time per file")
    return 0


if __name__ == "__main__":
    sys.exit(main())
