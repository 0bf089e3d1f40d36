"""Sizes that halvings do not divide."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

__all__ = ["cut_to", "pad_to_multiple"]


def pad_to_multiple(image: Tensor, multiple: int, value: float) -> Tensor:  # (B, C, *S) to (B, C, *T)
    """Append ``value`` to every axis up to the next multiple.

    >>> import torch
    >>> tuple(pad_to_multiple(torch.zeros(1, 1, 8, 9), 8, -1.0).shape)
    (1, 1, 8, 16)
    """
    missing: list[int] = []
    for axis in range(image.ndim - 1, 1, -1):
        missing.append(0)
        missing.append(-image.shape[axis] % multiple)
    return F.pad(image, missing, value=value)


def cut_to(padded: Tensor, image: Tensor) -> Tensor:
    """Undo :func:`pad_to_multiple`, for any number of channels."""
    for axis in range(2, image.ndim):
        padded = padded.narrow(axis, 0, image.shape[axis])
    return padded
