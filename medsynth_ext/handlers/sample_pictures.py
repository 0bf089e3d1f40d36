"""Pictures of what goes into a segmentation network and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from ignite.engine import Engine, Events
from PIL import Image
from torch import Tensor

from medsynth_ext.data.files import replacing
from medsynth_ext.engines.processes import rank_and_world

__all__ = ["SamplePictures", "slice_grid"]


class SamplePictures:
    """Writes a PNG of the first sample of an epoch's last batch.

    Its rows are image, target and prediction, its columns the middle slices along each axis.

    The engine's output must hold ``image`` (C, *S), ``label`` (1, *S) and ``pred`` (K, *S) or (1, *S) per sample.
    Only the first process writes.

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
        with replacing(self.folder / f"epoch={engine.state.epoch:06d}.png") as temporary:
            Image.fromarray(self.picture(sample)).save(temporary, format="PNG")

    def picture(self, sample: Mapping[str, Tensor]) -> np.ndarray:  # (H, W, 3) uint8
        """What is written of a sample."""
        return slice_grid(sample["image"][0], sample["label"], sample["pred"])


def slice_grid(
    image: Tensor,  # (*S), two or three axes
    *labels: Tensor,  # (1, *S) label indices or (K, *S) scores
) -> np.ndarray:  # (H, W, 3) uint8
    """The middle slices of an image, and below it of each label map, one column per axis."""
    volumes = [_grey(image.detach().float().cpu())]
    for label in labels:
        label = label.detach().cpu()
        volumes.append(_coloured((label.argmax(0) if len(label) > 1 else label[0]).long()))
    rows = []
    for volume in volumes:
        axes = range(3) if volume.ndim == 4 else ()  # the last axis holds the colours
        planes = [volume.select(axis, volume.shape[axis] // 2) for axis in axes] or [volume]
        # Transposed and turned over: for RAS volumes the head stands upright.
        rows.append([plane.transpose(0, 1).flip(0).numpy() for plane in planes])
    height = max(plane.shape[0] for plane in rows[0])
    padded = [[np.pad(p, ((0, height - p.shape[0]), (0, 2), (0, 0))) for p in row] for row in rows]
    return np.concatenate([np.concatenate(row, axis=1) for row in padded])


def _grey(volume: Tensor) -> Tensor:
    low, high = volume.min(), volume.max()
    grey = ((volume - low) / (high - low).clamp(min=1e-12) * 255).to(torch.uint8)
    return grey[..., None].expand(*volume.shape, 3)


def _coloured(labels: Tensor) -> Tensor:
    index = torch.arange(int(labels.max()) + 1)
    # Multiples of three irrational-like steps spread neighbouring indices over the colour cube; 0 is black.
    palette = torch.stack([(index * step) % 191 + 64 for step in (73, 131, 29)], dim=1).to(torch.uint8)
    palette[0] = 0
    return palette[labels]
