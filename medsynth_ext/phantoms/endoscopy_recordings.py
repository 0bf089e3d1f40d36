"""Endoscopic phantoms of both domains as files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tqdm.auto import tqdm

from medsynth_ext.phantoms.endoscopy import endoscopy_recording, write_recordings

__all__ = ["INTRAOP_SEEDS", "write_domains"]

INTRAOP_SEEDS = 1_000_000  # first seed of surgery: no valve is in both domains


def write_domains(
    folder: str | os.PathLike,
    *,
    sim: int = 6,
    intraop: int = 4,
    frames: int = 40,
    size: Sequence[int] = (144, 256),
    gap: float = 1.0,
    seed: int = 0,
) -> None:
    """Write ``sim/RECORDING`` and ``intraop/RECORDING`` as the AdaptOR challenge lays recordings out.

    Args:
        folder: where to write.
        sim: recordings of the simulator.
        intraop: recordings of surgery.
        frames: per recording.
        size: rows and columns.
        gap: how much surgery differs, see ``endoscopy_recording``.
        seed: of the first recording; the others follow.
    """
    wanted = [("sim", seed + i) for i in range(sim)] + [("intraop", INTRAOP_SEEDS + seed + i) for i in range(intraop)]
    for domain, number in tqdm(wanted, desc="drawing recordings"):
        recording = endoscopy_recording(number, domain=domain, frames=frames, size=size, gap=gap)
        write_recordings(Path(folder) / domain, {f"{domain}_{number % INTRAOP_SEEDS:03d}": recording})
