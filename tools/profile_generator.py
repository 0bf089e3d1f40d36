"""How many pairs a second the generator makes, for several batch sizes, and how far it is from the CPU's.

    python tools/profile_generator.py --device cuda --size 160 --batches 1,4,8 --out FILE

FILE is renewed after every batch size. On CUDA the kernels that take the time are listed too.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.bench_generator import LABELS, blob_table
from benchmarks.data import label_map
from medsynth_ext.generators import SynthSegGenerator

COMPARED_SIZE = 48


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--batches", type=lambda text: [int(n) for n in text.split(",")], default=[1, 4, 8])
    parser.add_argument("--seconds", type=float, default=3.0, help="time for each batch size")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args(arguments)


def save(path: Path, data: dict[str, Any]) -> None:
    """Write in one piece."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(data, indent=2) + "\n")
    os.replace(part, path)


def measure(size: int, batch: int, device: torch.device, seconds: float) -> dict[str, Any]:
    """Pairs a second with output buffers reused, every call with parameters of its own."""
    cuda = device.type == "cuda"
    labels = label_map(size, LABELS).to(torch.uint8).to(device).expand(batch, 1, size, size, size).contiguous()
    generator = SynthSegGenerator(blob_table(), crop_size=(size,) * 3, validate=False)
    out = (torch.empty(labels.shape, device=device), torch.empty(labels.shape, dtype=torch.int64, device=device))
    for index in range(3):
        generator(labels, seed=1, index=index * batch, out=out)
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    begun, drawing, calls = time.perf_counter(), 0.0, 0
    while calls < 3 or time.perf_counter() - begun < seconds:
        start = time.perf_counter()
        parameters = generator.draw(labels.shape, seed=1, index=calls * batch)
        drawing += time.perf_counter() - start
        generator.apply(labels, parameters, seed=1, index=calls * batch, out=out)
        calls += 1
        if cuda and calls % 8 == 0:
            torch.cuda.synchronize()  # the queue must not grow beyond what the time limit sees
    if cuda:
        torch.cuda.synchronize()
    elapsed = time.perf_counter() - begun
    record = {"size": size, "batch": batch, "calls": calls, "ms_per_call": 1e3 * elapsed / calls}
    record |= {"drawing_ms_per_call": 1e3 * drawing / calls, "samples_per_second": calls * batch / elapsed}
    if cuda:
        record["peak_mib"] = torch.cuda.max_memory_allocated() / 2**20
        record["kernels"] = kernels(generator, labels, out)
    return record


def kernels(generator: SynthSegGenerator, labels: torch.Tensor, out: tuple[torch.Tensor, torch.Tensor]) -> list[Any]:
    """The fifteen kernels and copies that take the most time: name, microseconds a call, launches a call."""
    calls = 5
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for index in range(calls):
            generator(labels, seed=2, index=index * len(labels), out=out)
        torch.cuda.synchronize()
    events = sorted(profile.key_averages(), key=lambda e: -e.self_device_time_total)[:15]
    return [[e.key[:120], e.self_device_time_total / calls, e.count / calls] for e in events]


def against_cpu(device: torch.device, size: int) -> dict[str, float]:
    """Largest difference of the images and share of different labels between a device and the CPU."""
    labels = label_map(size, LABELS).to(torch.uint8)[None, None]
    generator = SynthSegGenerator(blob_table(), crop_size=(size,) * 3)
    worst = {"image": 0.0, "labels": 0.0}
    for index in range(4):
        image, target = generator(labels, seed=3, index=index)
        image_device, target_device = (x.cpu() for x in generator(labels.to(device), seed=3, index=index))
        unequal = target != target_device
        near = (image - image_device).abs().flatten().sort().values
        # Where a label differs, the intensity does too; those voxels and what the blur spreads are in the other figure.
        kept = near[: max(1, int(near.numel() * 0.999))]
        worst["image"] = max(worst["image"], kept[-1].item())
        worst["labels"] = max(worst["labels"], unequal.double().mean().item())
    return worst


def main() -> int:
    """Measure every batch size; a size that does not fit is reported and the next one tried."""
    options = parse_arguments()
    device = torch.device(options.device)
    data: dict[str, Any] = {"device": options.device, "batches": [], "failed": []}
    if options.device == "cuda":
        data["against_cpu"] = against_cpu(device, min(options.size, COMPARED_SIZE))
        save(options.out, data)
    for batch in options.batches:
        try:
            data["batches"].append(measure(options.size, batch, device, options.seconds))
        except torch.cuda.OutOfMemoryError as error:
            data["failed"].append({"batch": batch, "reason": str(error).splitlines()[0]})
        save(options.out, data)
    print(json.dumps(data, indent=2))
    return 1 if data["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
