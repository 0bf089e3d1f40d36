"""What the slice generator sees: the coarse CT, the label and the position of a slice."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["coarse_slices", "condition_channels", "gather_slices", "slice_conditions"]


def condition_channels(context: int = 0) -> int:
    """Channels of a condition with ``context`` slices on either side."""
    return 3 * (2 * context + 1)


def gather_slices(volume: Tensor, k: Tensor) -> Tensor:  # (B, 1, X, Y, Z), (B, S) -> (B, S, X, Y)
    """Slices of Z; differentiable."""
    places = k[:, None, None].expand(-1, *volume.shape[2:4], -1)
    return volume[:, 0].gather(3, places).movedim(3, 1)


def coarse_slices(coarse: Tensor, k: Tensor, size: int) -> Tensor:  # (B, 1, c, c, c), (B, S) -> (B, S, size, size)
    """Slices of the trilinearly enlarged volume (half-pixel centres), without making that volume."""
    count = coarse.shape[4]
    place = ((k + 0.5) * (count / size) - 0.5).clamp(0, count - 1)
    low = place.floor().long()
    share = (place - low).to(coarse.dtype)[:, :, None, None]
    below, above = gather_slices(coarse, low), gather_slices(coarse, (low + 1).clamp_max(count - 1))
    return F.interpolate(torch.lerp(below, above, share), (size, size), mode="bilinear", align_corners=False)


def slice_conditions(coarse: Tensor, heart: Tensor, k: Tensor, *, context: int = 0) -> Tensor:
    """Conditions of slices, (B S, 3 (2 context + 1), N, N), differentiable in both volumes.

    Args:
        coarse: (B, 1, c, c, c) simulated CT, of any size.
        heart: (B, 1, N, N, N) label.
        k: (B, S) slices of Z.
        context: also show so many slices on either side, repeated at the ends.
    """
    size = heart.shape[4]
    channels = []
    for offset in range(-context, context + 1):
        at = (k + offset).clamp(0, size - 1)
        position = (at / size).to(heart.dtype)[:, :, None, None].expand(-1, -1, *heart.shape[2:4])
        channels += [coarse_slices(coarse, at, size), gather_slices(heart, at), position]
    return torch.stack(channels, 2).flatten(0, 1)
