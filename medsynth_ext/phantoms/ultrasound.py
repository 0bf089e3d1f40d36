"""The speckle phantom: B-mode frames of vessels in several tissues by several machines, with exact masks and styles."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from medsynth_ext import ops
from medsynth_ext.data.files import replacing
from medsynth_ext.phantoms.ultrasound_anatomy import CONTENTS, draw_tissues
from medsynth_ext.phantoms.ultrasound_machines import MACHINES, OBSERVED, Machine
from medsynth_ext.phantoms.ultrasound_rendering import beam_grid, render_tissues, scan_convert

__all__ = [
    "UltrasoundAnatomy",
    "UltrasoundFrame",
    "taking_turns",
    "ultrasound_anatomy",
    "ultrasound_frame",
    "write_frames",
]


@dataclass(frozen=True)
class UltrasoundAnatomy:
    """What lies below the probe."""

    tissues: Tensor  # (H, W) uint8, indices of TISSUES
    labels: Tensor  # (H, W) uint8: 1 vein, 2 artery


@dataclass(frozen=True)
class UltrasoundFrame:
    """One picture and the vessels in it."""

    image: Tensor  # (1, H, W) float32 in [0, 1]
    labels: Tensor  # (1, H, W) uint8: 1 vein, 2 artery


def ultrasound_anatomy(
    seed: int, *, content: str, size: Sequence[int] = (128, 128), deformation: float = 0.02
) -> UltrasoundAnatomy:
    """Draw tissues and deform them smoothly; a pure function of its arguments.

    Args:
        seed: addresses the anatomy.
        content: a key of ``CONTENTS``: ``leg`` (a vessel phantom of gel), ``pig``, ``breast`` or ``nerve``.
        size: rows and columns.
        deformation: deviation of the deformation's velocity, as a share of the rows.

    Raises:
        ValueError: for another content, pictures below 16 x 16, or a negative deformation.
    """
    if content not in CONTENTS:
        raise ValueError(f"content must be one of {', '.join(CONTENTS)}, got {content!r}")
    if len(size) != 2 or min(size) < 16:
        raise ValueError(f"size must be rows and columns of at least 16, got {tuple(size)}")
    if deformation < 0:
        raise ValueError(f"deformation must not be negative, got {deformation}")
    rng = np.random.default_rng([seed, 701, list(CONTENTS).index(content)])
    tissues, labels = (torch.from_numpy(part) for part in draw_tissues(content, int(size[0]), int(size[1]), rng))
    if deformation > 0:
        coarse = torch.from_numpy(rng.normal(0, deformation * size[0], (1, 2, 4, 4))).float()
        velocity = F.interpolate(coarse, size=tuple(size), mode="bicubic", align_corners=True)
        shift = ops.integrate_svf(velocity)
        both = ops.warp_labels(torch.stack([tissues, labels])[None], shift)
        tissues, labels = both[0]
    return UltrasoundAnatomy(tissues, labels)


def ultrasound_frame(
    seed: int,
    *,
    content: str,
    machine: int | Machine,
    size: Sequence[int] = (128, 128),
    sector_deg: float = 0.0,
    speckle_seed: int | None = None,
) -> UltrasoundFrame:
    """Scan an anatomy with a machine.

    The same seed is the same anatomy and the same scatterers under every machine.

    Args:
        seed: addresses anatomy and scatterers.
        content: as in :func:`ultrasound_anatomy`.
        machine: number of one of the ``MACHINES``, or one of its own.
        size: rows and columns.
        sector_deg: opening of a convex probe, whose beams are converted to a picture; 0 for a linear probe.
        speckle_seed: addresses the scatterers alone.

    Raises:
        ValueError: as :func:`ultrasound_anatomy`, for a machine that is not there, or a sector of 180 degrees or more.
    """
    if not isinstance(machine, Machine):
        if not 0 <= machine < len(MACHINES):
            raise ValueError(f"machine must be 0 to {len(MACHINES) - 1}, got {machine}")
        machine = MACHINES[machine]
    if not 0 <= sector_deg < 180:
        raise ValueError(f"sector_deg must be from 0 to below 180, got {sector_deg}")
    anatomy = ultrasound_anatomy(seed, content=content, size=size)
    tissues, labels = anatomy.tissues, anatomy.labels
    speckle = seed if speckle_seed is None else speckle_seed
    if sector_deg == 0:
        return UltrasoundFrame(render_tissues(tissues, machine, speckle)[None], labels[None])
    grid = beam_grid(tissues.shape[0], tissues.shape[1], sector_deg)[None]
    seen = F.grid_sample(tissues[None, None].float(), grid, mode="nearest", padding_mode="border", align_corners=False)
    picture = scan_convert(render_tissues(seen[0, 0].to(torch.uint8), machine, speckle), sector_deg)
    visible = scan_convert(torch.ones(tissues.shape), sector_deg) > 0
    return UltrasoundFrame(picture[None], (labels * visible)[None])


def taking_turns(number: int, contents: Sequence[str], machines: Sequence[int]) -> tuple[str, int]:
    """Content and machine of frame ``number``: each combination once in ``len(contents) * len(machines)`` frames."""
    return contents[number % len(contents)], machines[number // len(contents) % len(machines)]


def write_frames(
    folder: str | os.PathLike,
    *,
    count: int,
    first_seed: int = 0,
    contents: Sequence[str] = tuple(CONTENTS),
    machines: Sequence[int] = OBSERVED,
    size: Sequence[int] = (128, 128),
    sector_deg: float = 0.0,
) -> list[Path]:
    """Write ``images/NAME.png`` (8 bit) and ``labels/NAME.png`` of frames whose contents and machines take turns.

    A name is ``CONTENT_machineM_SEED``; every combination occurs equally often as far as the count allows. The table
    ``frames.csv`` has the columns file, content, machine and seed.

    Returns:
        The images.

    Raises:
        ValueError: for no content, no machine, or a count below 1.
        OutputError: when a file cannot be written.
    """
    if count < 1 or not contents or not machines:
        raise ValueError(f"wanted a count, contents and machines, got {count}, {list(contents)}, {list(machines)}")
    written, rows = [], []
    for number in range(count):
        content, machine = taking_turns(number, contents, machines)
        frame = ultrasound_frame(
            first_seed + number, content=content, machine=machine, size=size, sector_deg=sector_deg
        )
        name = f"{content}_machine{machine + 1}_{first_seed + number:05d}.png"
        for kind, levels in (("images", (frame.image[0] * 255).round()), ("labels", frame.labels[0])):
            with replacing(Path(folder) / kind / name) as temporary:
                Image.fromarray(levels.to(torch.uint8).numpy()).save(temporary)
        written.append(Path(folder) / "images" / name)
        rows.append([name, content, machine + 1, first_seed + number])
    with replacing(Path(folder) / "frames.csv") as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows([["file", "content", "machine", "seed"], *rows])
    return written
