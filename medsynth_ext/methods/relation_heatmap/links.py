"""A map of the lines between points and their nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["nearest_neighbours", "render_links"]


def nearest_neighbours(
    points: Tensor,  # (B, K, 2)
    valid: Tensor,  # (B, K) bool
) -> tuple[Tensor, Tensor]:  # (B, K) distances, (B, K) int64
    """The distance to the nearest other point, infinite where there is none, and its number."""
    if points.shape[1] == 0:
        empty = points.new_zeros(points.shape[:2])
        return empty, empty.long()
    distance = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    alone = torch.eye(points.shape[1], dtype=torch.bool, device=points.device)
    distance = distance.masked_fill(alone | ~valid[:, None, :] | ~valid[:, :, None], torch.inf)
    least, index = distance.min(2)
    return least, index


def render_links(
    points: Tensor,  # (B, K, 2) as (y, x)
    valid: Tensor,  # (B, K) bool
    size: Sequence[int],
    sigma: float,
) -> Tensor:  # (B, 1, *size)
    """``exp(-d^2 / (2 sigma^2))`` with the distance d to the closest segment between a point and its nearest neighbour.

    A frame with fewer than two points has an empty map.

    Args:
        points: index coordinates; integers are pixel centres.
        valid: which of them count.
        size: rows and columns.
        sigma: width of the lines' profile in pixels.

    >>> two = torch.tensor([[[1.0, 0.0], [1.0, 2.0]]])
    >>> render_links(two, torch.tensor([[True, True]]), (2, 4), 1.0)[0, 0, 1]
    tensor([1.0000, 1.0000, 1.0000, 0.6065])
    """
    points = torch.where(valid[..., None], points, 0)
    least, index = nearest_neighbours(points, valid)
    linked = least.isfinite()
    ends = points.gather(1, index[..., None].expand_as(points))
    y, x = (torch.arange(n, dtype=points.dtype, device=points.device) for n in size)
    nearest = points.new_full((len(points), *size), torch.inf)
    for k in range(points.shape[1]):
        (py, px), (vy, vx) = (t[:, k, :, None, None].unbind(1) for t in (points, ends - points))
        dy, dx = y[:, None] - py, x - px  # (B, H, 1), (B, 1, W)
        along = ((dy * vy + dx * vx) / (vy**2 + vx**2).clamp_min(1e-12)).clamp(0, 1)
        square = (dy - along * vy) ** 2 + (dx - along * vx) ** 2
        nearest = torch.where(linked[:, k, None, None], torch.minimum(nearest, square), nearest)
    return torch.exp(-nearest / (2 * sigma**2))[:, None]
