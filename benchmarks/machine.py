"""What the figures were measured on: processor, threads, versions and the copy bandwidth."""

from __future__ import annotations

import os
import platform
import statistics
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import medsynth_ext

__all__ = ["copy_bandwidth", "facts", "is_busy"]

PACKAGES = ("torch", "monai", "torchio", "cornucopia", "torch-interpol", "voxelmorph", "neurite", "itk", "simpleitk")
PACKAGES += ("astra-toolbox", "itk-rtk", "vtk", "libigl", "trimesh", "kornia", "opencv-python-headless", "scikit-image")
PACKAGES += ("numpy", "scipy", "medsynth_ext")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def is_busy(load: float, threads: int) -> bool:
    """Whether other work was running before the benchmarks began: then CPU time decides, else wall time."""
    return load > 0.35 * threads


def copy_bandwidth(device: torch.device, *, mib: int | None = None) -> float:
    """GB/s of a large copy, bytes read plus bytes written: the limit that operators are held against."""
    size = (mib or (2048 if device.type == "cuda" else 96)) << 18
    source, target = torch.rand(size, device=device), torch.empty(size, device=device)
    times = []
    for i in range(12):
        if device.type == "cuda":
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            target.copy_(source)
            stop.record()
            torch.cuda.synchronize(device)
            seconds = start.elapsed_time(stop) / 1e3
        else:
            begun = time.perf_counter()
            target.copy_(source)
            seconds = time.perf_counter() - begun
        if i >= 2:
            times.append(seconds)
    best = statistics.median(times) if device.type == "cuda" else min(times)
    return 2 * 4 * size / best / 1e9


def facts(device: torch.device) -> dict[str, Any]:
    """Machine, versions and state before the first measurement."""
    load = os.getloadavg()[0]
    threads = torch.get_num_threads()
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
        "device": device.type,
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "load_before": load,
        "busy": is_busy(load, threads),
        "bandwidth_gb_per_s": copy_bandwidth(device),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: _version(name) for name in PACKAGES},
        "build": medsynth_ext.build_info(),
    }
