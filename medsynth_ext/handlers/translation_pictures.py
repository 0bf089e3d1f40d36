"""Pictures of both ways of a translation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from ignite.engine import Engine, Events
from PIL import Image
from torch import Tensor

from medsynth_ext.data.files import replacing
from medsynth_ext.engines.processes import rank_and_world

__all__ = ["TranslationPictures"]


class TranslationPictures:
    """Writes a PNG of the first sample of an epoch's last batch: images side by side, (1 or 3, H, W) each.

    Only the first process writes.

    Args:
        folder: where ``epoch=N.png`` are written.
        keys: of the engine's output, from left to right.
        value_range: of the images, shown as black and white.
        interval: write every so many epochs.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        keys: Sequence[str] = ("image", "pred", "image_b", "pred_a"),
        value_range: Sequence[float] = (-1.0, 1.0),
        interval: int = 1,
    ) -> None:
        if interval < 1:
            raise ValueError(f"interval must be at least 1, got {interval}")
        self.folder = Path(folder)
        self.keys = tuple(keys)
        self.low, self.high = value_range
        self.interval = interval

    def attach(self, engine: Engine) -> None:
        """Register with a trainer or evaluator."""
        if rank_and_world()[0] == 0:
            engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self)

    def __call__(self, engine: Engine) -> None:
        sample: dict[str, Tensor] = engine.state.output[0]  # type: ignore[index]
        parts = [self._levels(sample[key]) for key in self.keys]
        with replacing(self.folder / f"epoch={engine.state.epoch:06d}.png") as temporary:
            Image.fromarray(np.concatenate(parts, axis=1)).save(temporary, format="PNG")

    def _levels(self, picture: Tensor) -> np.ndarray:  # (H, W, 3) uint8
        share = (torch.as_tensor(picture).detach().float().cpu() - self.low) / (self.high - self.low)
        return (share.clamp(0, 1).expand(3, -1, -1) * 255).round().to(torch.uint8).movedim(0, -1).numpy()
