"""Training on images and labels as the data set gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from medsynth_ext.engines.supervised_step import SupervisedStep

__all__ = ["ImageLabelStep"]


class ImageLabelStep(SupervisedStep):
    """One supervised update on ``batch["image"]`` (B, C, *S) and ``batch["label"]`` (B, 1, *S)."""

    def make_pair(self, batch: Mapping[str, Any], first: int, device: torch.device) -> tuple[Tensor, Tensor]:
        return batch["image"].to(device, non_blocking=True), batch["label"].to(device, non_blocking=True)
