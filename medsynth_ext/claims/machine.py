"""Which machine and which versions a result comes from."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from medsynth_ext._extension import build_info

__all__ = ["cpu_name", "machine_record", "version_record"]

_PACKAGES = ("medsynth_ext", "torch", "monai", "numpy")


def cpu_name() -> str:
    """Model name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def machine_record(*, workers: int, device: str) -> dict[str, Any]:
    """Processor, cores, graphics card and how they were used."""
    affinity = getattr(os, "sched_getaffinity", None)
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    built = build_info()
    return {
        "cpu": cpu_name(),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "worker_processes": workers,
        "gpu": gpu,
        "device": device,
        "system": f"{platform.system()} {platform.machine()}",
        "instruction_set": built.get("cpu_in_use"),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def version_record() -> dict[str, str]:
    """Versions of Python and the packages that matter."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    return found
