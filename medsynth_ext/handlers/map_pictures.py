"""Pictures of what goes into a detector's training and what comes out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from ignite.engine import Engine, Events
from PIL import Image
from torch import Tensor

from medsynth_ext.data.files import replacing
from medsynth_ext.engines.processes import rank_and_world

__all__ = ["MapPictures"]


class MapPictures:
    """Writes a PNG of an epoch's last batch: image, target map and predicted map of its first sample, in one column.

    The engine's output must hold ``image`` (3, H, W), ``label`` (1, H, W) and ``pred`` (C, H, W) per sample; of maps
    the first channel is shown, 0 black and 1 white. Only the first process writes.

    Args:
        folder: where ``epoch=N.png`` are written.
        interval: write every so many epochs.
    """

    def __init__(self, folder: str | Path, *, interval: int = 1) -> None:
        if interval < 1:
            raise ValueError(f"interval must be at least 1, got {interval}")
        self.folder = Path(folder)
        self.interval = interval

    def attach(self, engine: Engine) -> None:
        """Register with a trainer or evaluator."""
        if rank_and_world()[0] == 0:
            engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self)

    def __call__(self, engine: Engine) -> None:
        sample: dict[str, Tensor] = engine.state.output[0]  # type: ignore[index]
        parts = [_levels(sample["image"]), _levels(sample["label"][:1]), _levels(sample["pred"][:1])]
        with replacing(self.folder / f"epoch={engine.state.epoch:06d}.png") as temporary:
            Image.fromarray(np.concatenate(parts)).save(temporary, format="PNG")


def _levels(picture: Tensor) -> np.ndarray:  # (H, W, 3) uint8
    picture = torch.as_tensor(picture).detach().float().cpu().clamp(0, 1).expand(3, -1, -1)
    return (picture * 255).round().to(torch.uint8).movedim(0, -1).numpy()
