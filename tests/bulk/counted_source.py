"""A source of small volumes that writes down what it makes, and can be slow; for tests in several processes."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medsynth_ext import ops
from medsynth_ext.bulk import Sample, Volume, on_grid


class CountedSource:
    """Noise and its sign.

    Args:
        size: voxels per side.
        log: file that gets a line "process index" before each sample.
        pause_s: how long every sample takes.
    """

    def __init__(self, size: int = 6, *, log: str | None = None, pause_s: float = 0.0) -> None:
        self.size = size
        self.log = None if log is None else Path(log)
        self.pause_s = pause_s

    def describe(self) -> dict[str, Any]:
        return {"kind": "counted", "size": self.size}

    def make(self, index: int, *, seed: int) -> Sample:
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(f"{os.getpid()} {index}\n")
        time.sleep(self.pause_s)
        if self.size < 1:
            raise ValueError(f"size must be at least 1, got {self.size}")
        noise = ops.rand_normal((1, self.size, self.size, self.size), seed, sample_offset=index)[0]
        label = (noise > 0).to(torch.uint8)
        volumes = {"image": Volume(on_grid(100 * noise, 2.0), np.int16), "label": Volume(on_grid(label, 2.0), np.uint8)}
        return Sample(volumes, {"twice": 2 * index})
