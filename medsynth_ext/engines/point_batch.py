"""What MONAI's evaluators take from a batch of frames with points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["prepare_point_batch"]


def prepare_point_batch(
    batch: Mapping[str, Any], device: str | torch.device | None = None, non_blocking: bool = False, **_: Any
) -> tuple[Tensor, Tensor | None]:
    """The ``image`` and, as ``label``, the ``points`` of a batch, if it has some; a ``prepare_batch`` of MONAI."""
    image, points = batch["image"], batch.get("points")
    moved = image.to(device, non_blocking=non_blocking)
    return moved, None if points is None else points.to(device, non_blocking=non_blocking)
