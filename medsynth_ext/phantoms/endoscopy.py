"""Endoscopic recordings of a mitral valve with sutures, in a simulator and in surgery, with exact labels."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medsynth_ext.data.point_frames import write_frame
from medsynth_ext.phantoms.endoscopy_scene import STAGES, draw_scene
from medsynth_ext.phantoms.endoscopy_view import View

__all__ = ["DOMAINS", "EndoscopyFrame", "endoscopy_recording", "write_recordings"]

DOMAINS = ("sim", "intraop")


@dataclass(frozen=True)
class EndoscopyFrame:
    """One picture and the points where its sutures enter the tissue."""

    image: Tensor  # (3, H, W) float32 in [0, 1]
    points: Tensor  # (K, 2) float32, index coordinates (y, x)


def endoscopy_recording(
    seed: int,
    *,
    domain: str,
    frames: int,
    size: Sequence[int] = (288, 512),
    gap: float = 1.0,
    site: int | None = None,
) -> list[EndoscopyFrame]:
    """One recording: a valve of fixed looks under a slowly moving camera, sutured in three stages.

    The simulator (``sim``) shows smooth silicone in even light; surgery (``intraop``) texture, blood, highlights,
    vignetting, smoke, blur and stained threads. Hard cases in both: crossing threads, cut ends and needles on the
    tissue, instruments and a prosthetic ring that hide sutures (hidden ones are not labelled).

    Args:
        seed: addresses valve, camera and looks. The same seed has the same valve in both domains, so take different
            seeds for data sets that shall be independent.
        domain: ``sim`` or ``intraop``.
        frames: how many.
        size: rows and columns; threads are 2 to 3 pixels thick at 512 columns and thinner in proportion.
        gap: how much surgery differs, from 0 (it looks as the simulator, pixel for pixel) to 1.
        site: recordings of one number share the endoscope: exposure, colours, lamp, blur, noise and vignetting. Every
            recording has its own by default.

    Raises:
        ValueError: for another domain, a gap outside 0 to 1, less than one frame or pictures below 32 x 32.
    """
    if domain not in DOMAINS:
        raise ValueError(f"domain must be one of {', '.join(DOMAINS)}, got {domain!r}")
    if not 0 <= gap <= 1:
        raise ValueError(f"gap must be in [0, 1], got {gap}")
    if frames < 1:
        raise ValueError(f"frames must be at least 1, got {frames}")
    if len(size) != 2 or min(size) < 32:
        raise ValueError(f"size must be rows and columns of at least 32, got {tuple(size)}")
    surgery = gap if domain == "intraop" else 0.0
    height, width = (int(n) for n in size)
    scene = draw_scene(np.random.default_rng([seed, 613]), surgery=surgery, scale=1.25 * width / 512)
    camera = None if site is None else np.random.default_rng([site, 616])
    view = View(scene, np.random.default_rng([seed, 614]), camera=camera, surgery=surgery, size=(height, width))
    recording = []
    with torch.no_grad():
        for number in range(frames):
            stage = number * STAGES // frames
            image, points = view.frame(number, stage, np.random.default_rng([seed, 615, number]))
            recording.append(EndoscopyFrame(image, torch.from_numpy(points).float()))
    return recording


def write_recordings(folder: str | os.PathLike, recordings: Mapping[str, Sequence[EndoscopyFrame]]) -> None:
    """Write recordings as the AdaptOR challenge lays them out, ``NAME/video/{images,point_labels}/000000.{png,json}``.

    Args:
        folder: where to.
        recordings: frames by the name of the surgery.

    Raises:
        OutputError: when a file cannot be written.
    """
    for name, frames in recordings.items():
        for number, frame in enumerate(frames):
            write_frame(Path(folder) / name / "video", f"{number:06d}", frame.image, frame.points)
