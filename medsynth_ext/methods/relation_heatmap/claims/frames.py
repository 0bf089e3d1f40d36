"""Phantom frames of a study, in memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from medsynth_ext.claims import Progress
from medsynth_ext.data.files import replacing
from medsynth_ext.phantoms.endoscopy import endoscopy_recording

__all__ = ["MAX_POINTS", "FrameSet", "draw_frames", "load_frames"]

MAX_POINTS = 64


class FrameSet(Dataset):
    """Frames with their points and domain."""

    def __init__(self, images: Tensor, points: Tensor, domains: Tensor) -> None:
        self.images = images  # (N, 3, H, W) uint8
        self.points = points  # (N, MAX_POINTS, 2), NaN where there is none
        self.domains = domains  # (N,)

    def counts(self, domain: int) -> list[int]:
        """The number of points of every frame of a domain."""
        chosen = self.points[self.domains == domain]
        return (~chosen.isnan().any(-1)).sum(1).tolist()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = self.images[index].float() / 255
        return {"image": image, "points": self.points[index], "domain": self.domains[index]}


def draw_frames(
    path: Path,
    first: int,
    *,
    domain: str,
    recordings: int,
    frames: int,
    size: Sequence[int],
    gap: float,
    first_site: int,
    sites: int,
    progress: Progress,
) -> None:
    """Draw recordings from consecutive seeds into one file, unless it is there; they take turns among the sites."""
    if path.is_file():
        return
    images, points = [], []
    for number in range(recordings):
        site = first_site + number % sites
        for frame in endoscopy_recording(first + number, domain=domain, frames=frames, size=size, gap=gap, site=site):
            images.append((frame.image * 255).round().to(torch.uint8))
            rows = torch.full((MAX_POINTS, 2), math.nan)
            rows[: len(frame.points)] = frame.points
            points.append(rows)
        progress((number + 1) / recordings, f"{domain} recording {number + 1}")
    with replacing(path) as temporary:
        torch.save({"images": torch.stack(images), "points": torch.stack(points)}, temporary)


def load_frames(*parts: tuple[Path, int]) -> FrameSet:
    """The frames of several files, each with the domain of its frames."""
    records = [(torch.load(path, weights_only=True), domain) for path, domain in parts]
    domains = [torch.full((len(record["images"]),), domain) for record, domain in records]
    images, points = (torch.cat([record[key] for record, _ in records]) for key in ("images", "points"))
    return FrameSet(images, points, torch.cat(domains))
