"""Pictures of what goes into a detector's training and what comes out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from medsynth_ext.handlers.sample_pictures import SamplePictures

__all__ = ["MapPictures"]


class MapPictures(SamplePictures):
    """Writes a PNG of an epoch's last batch: image, target map and predicted map of its first sample, in one column.

    The engine's output must hold ``image`` (3, H, W), ``label`` (1, H, W) and ``pred`` (C, H, W) per sample; of maps
    the first channel is shown, 0 black and 1 white. Only the first process writes.

    Args:
        folder: where ``epoch=N.png`` are written.
        interval: write every so many epochs.
    """

    def picture(self, sample: Mapping[str, Tensor]) -> np.ndarray:  # (3 H, W, 3) uint8
        """Image, target and prediction in one column."""
        return np.concatenate([_levels(sample["image"]), _levels(sample["label"][:1]), _levels(sample["pred"][:1])])


def _levels(picture: Tensor) -> np.ndarray:  # (H, W, 3) uint8
    picture = torch.as_tensor(picture).detach().float().cpu().clamp(0, 1).expand(3, -1, -1)
    return (picture * 255).round().to(torch.uint8).movedim(0, -1).numpy()
