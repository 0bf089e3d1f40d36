"""Landmarks drawn on radiographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from ignite.engine import Engine, Events
from PIL import Image, ImageDraw
from torch import Tensor

from medsynth_ext.data.files import replacing
from medsynth_ext.engines.processes import rank_and_world

__all__ = ["LandmarkPictures", "draw_landmarks"]

PREDICTED, TRUE = (255, 80, 60), (80, 220, 90)


def draw_landmarks(
    image: np.ndarray,  # (H, W)
    predicted: np.ndarray | None,  # (N, 2) index coordinates (y, x), NaN where there is none
    true: np.ndarray | None = None,  # (N, 2)
    *,
    spread: np.ndarray | None = None,  # (N,) pixels
    longest: int = 1024,
) -> Image.Image:
    """Predicted landmarks as red crosses, with circles of twice the spread, true ones as green circles.

    Large images are shrunk, small ones enlarged, so that the longer side has ``longest`` pixels.
    """
    low, high = np.percentile(image, (1, 99))
    grey = (np.clip((image - low) / max(high - low, 1e-12), 0, 1) * 255).astype(np.uint8)
    scale = longest / max(grey.shape)
    sides = round(grey.shape[1] * scale), round(grey.shape[0] * scale)
    picture = Image.fromarray(grey).resize(sides, Image.Resampling.BICUBIC).convert("RGB")
    draw = ImageDraw.Draw(picture)
    mark = longest / 120
    line = max(1, round(longest / 400))
    for points, colour in ((true, TRUE), (predicted, PREDICTED)):
        for i, (y, x) in enumerate([] if points is None else (np.asarray(points) + 0.5) * scale - 0.5):
            if np.isnan(y) or np.isnan(x):
                continue
            if points is true:
                draw.ellipse((x - mark, y - mark, x + mark, y + mark), outline=colour, width=line)
                continue
            draw.line((x - mark, y - mark, x + mark, y + mark), fill=colour, width=line)
            draw.line((x - mark, y + mark, x + mark, y - mark), fill=colour, width=line)
            if spread is not None and spread[i] > 0:
                r = 2 * spread[i] * scale
                draw.ellipse((x - r, y - r, x + r, y + r), outline=colour, width=line)
    return picture


class LandmarkPictures:
    """Writes a PNG of the first sample of an epoch's last batch: image, true and predicted landmarks.

    The engine's output must hold ``image`` (1, H, W) and ``pred`` (N, 2) per sample, and ``label`` (N, 2) where it is
    known. Only the first process writes.

    Args:
        folder: where ``epoch=N.png`` are written.
        interval: write every so many epochs.
        longest: pixels of a picture's longer side.
    """

    def __init__(self, folder: str | Path, *, interval: int = 1, longest: int = 512) -> None:
        if interval < 1:
            raise ValueError(f"interval must be at least 1, got {interval}")
        self.folder = Path(folder)
        self.interval = interval
        self.longest = longest

    def attach(self, engine: Engine) -> None:
        """Register with a trainer or evaluator."""
        if rank_and_world()[0] == 0:
            engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self)

    def __call__(self, engine: Engine) -> None:
        sample: dict[str, Tensor] = engine.state.output[0]  # type: ignore[index]
        arrays = {
            key: torch.as_tensor(sample[key]).detach().float().cpu().numpy()
            for key in ("image", "pred", "label")
            if key in sample
        }
        picture = draw_landmarks(arrays["image"][0], arrays["pred"], arrays.get("label"), longest=self.longest)
        with replacing(self.folder / f"epoch={engine.state.epoch:06d}.png") as temporary:
            picture.save(temporary, format="PNG")
