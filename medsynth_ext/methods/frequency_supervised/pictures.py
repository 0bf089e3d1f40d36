"""Pictures of a translation: source, found, true, and where they differ."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from medsynth_ext.handlers.sample_pictures import SamplePictures

__all__ = ["SynthesisPictures"]


class SynthesisPictures(SamplePictures):
    """Writes a PNG of an epoch's last batch: the middle slices of image, found CT, true CT and their difference.

    The engine's output must hold ``image``, ``pred`` and ``label`` (1, D, H, W). The CTs share their grey scale, which
    the true one sets; a difference of its whole range is white. Only the first process writes.

    Args:
        folder: where ``epoch=N.png`` are written.
        interval: write every so many epochs.
    """

    def picture(self, sample: Mapping[str, Tensor]) -> np.ndarray:  # (H, W, 3) uint8
        """Four rows of three slices."""
        image, found, true = (
            torch.as_tensor(sample[key]).detach().float().cpu()[0] for key in ("image", "pred", "label")
        )
        low, span = true.min(), (true.max() - true.min()).clamp(min=1e-6)
        own = (image - image.min()) / (image.max() - image.min()).clamp(min=1e-6)
        rows = [own, (found - low) / span, (true - low) / span, (found - true).abs() / span]
        return np.concatenate([_slices(row.clamp(0, 1)) for row in rows])


def _slices(volume: Tensor) -> np.ndarray:  # (D, H, W) in [0, 1] to (S, 3 S, 3) uint8, S the longest side
    side = max(volume.shape)
    planes = []
    for axis in range(3):
        plane = volume.select(axis, volume.shape[axis] // 2).T.flip(0)  # upright for RAS
        canvas = torch.zeros(side, side)
        canvas[: plane.shape[0], : plane.shape[1]] = plane
        planes.append(canvas)
    grey = (torch.cat(planes, 1) * 255).round().to(torch.uint8)
    return grey[..., None].expand(-1, -1, 3).numpy()
