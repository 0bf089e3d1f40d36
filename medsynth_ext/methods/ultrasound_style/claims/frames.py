"""Phantom frames of the study, all of one part at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from medsynth_ext.claims import Progress
from medsynth_ext.data.files import replacing
from medsynth_ext.phantoms.ultrasound import taking_turns, ultrasound_frame

__all__ = ["Frames", "cached_frames"]


@dataclass(frozen=True)
class Frames:
    """Pictures with masks and machines."""

    images: Tensor  # (N, 1, H, W) float32 in [0, 1]
    labels: Tensor  # (N, 1, H, W) uint8
    machines: Tensor  # (N,) int64

    def first(self, count: int) -> Frames:
        """The first so many."""
        return Frames(self.images[:count], self.labels[:count], self.machines[:count])


def cached_frames(
    path: Path,
    *,
    count: int,
    first_seed: int,
    contents: Sequence[str],
    machines: Sequence[int],
    size: int,
    progress: Progress | None = None,
) -> Frames:
    """Read the frames of a part, or draw and keep them; contents and machines take turns."""
    if not path.is_file():
        images, labels, used = [], [], []
        for n in range(count):
            content, machine = taking_turns(n, contents, machines)
            frame = ultrasound_frame(first_seed + n, content=content, machine=machine, size=(size, size))
            images.append((frame.image * 255).round().to(torch.uint8))
            labels.append(frame.labels)
            used.append(machine)
            if progress is not None and n % 20 == 19:
                progress(n / count, f"{path.stem} frame {n + 1}")
        state = {"images": torch.stack(images), "labels": torch.stack(labels), "machines": torch.tensor(used)}
        with replacing(path) as temporary:
            torch.save(state, temporary)
    state = torch.load(path, weights_only=True)
    return Frames(state["images"].float() / 255, state["labels"], state["machines"])
