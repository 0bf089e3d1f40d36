"""Overlap of hearts."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["dice_and_iou"]


def dice_and_iou(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:  # (B, 1, X, Y, Z) masks -> (B,), (B,)
    """``2 |A B| / (|A| + |B|)`` and ``|A B| / |A or B|`` per sample; 1 where both are empty.

    >>> a, b = torch.tensor([1, 1, 0]).view(1, 1, 3, 1, 1), torch.tensor([0, 1, 0]).view(1, 1, 3, 1, 1)
    >>> [round(v.item(), 3) for v in dice_and_iou(a, b)]
    [0.667, 0.5]
    """
    a, b = (mask.flatten(1) > 0 for mask in (pred, target))
    both, total = (a & b).sum(1).double(), (a.sum(1) + b.sum(1)).double()
    empty = total == 0
    dice = torch.where(empty, 1.0, 2 * both / total.clamp_min(1))
    iou = torch.where(empty, 1.0, both / (total - both).clamp_min(1))
    return dice, iou
