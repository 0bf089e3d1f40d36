"""Plain PyTorch twin of sampling at points."""

from __future__ import annotations

import torch
from torch import Tensor

from medsynth_ext.ops._precision import float32_inside
from medsynth_ext.ops.reference.warping import warp

__all__ = ["points_as_field", "sample_at_points"]


def points_as_field(pts: Tensor) -> Tensor:
    """The displacement (B, D, N, 1...) that sends voxel (n, 0...) to point n of (B, N, D)."""
    index = torch.zeros(pts.shape[1:], dtype=pts.dtype, device=pts.device)
    index[:, 0] = torch.arange(pts.shape[1], dtype=pts.dtype, device=pts.device)
    field = (pts - index).movedim(1, 2)
    return field.reshape(*field.shape, *[1] * (pts.shape[2] - 1))


@float32_inside("feat", "pts")
def sample_at_points(feat: Tensor, pts: Tensor, *, out: Tensor | None = None) -> Tensor:
    """See :func:`medsynth_ext.ops.sample_at_points`."""
    values = warp(feat, points_as_field(pts)).flatten(2).movedim(1, 2)
    return values.contiguous() if out is None else out.copy_(values)
