"""Index coordinates of a map and normalised coordinates, which are the same for every resolution of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["to_index", "to_normalised"]


def to_index(
    points: Tensor,  # (..., 2)
    size: Sequence[int],  # H, W
) -> Tensor:  # (..., 2)
    """Index coordinates, integers at pixel centres, of points given with -1 and 1 at the outer edges."""
    return (points + 1) / 2 * _extent(points, size) - 0.5


def to_normalised(
    points: Tensor,  # (..., 2)
    size: Sequence[int],  # H, W
) -> Tensor:  # (..., 2)
    """The inverse of :func:`to_index`.

    >>> to_normalised(torch.tensor([-0.5, 3.5]), (4, 4)).tolist()
    [-1.0, 1.0]
    """
    return (points + 0.5) / _extent(points, size) * 2 - 1


def _extent(points: Tensor, size: Sequence[int]) -> Tensor:
    return torch.tensor([size[0], size[1]], dtype=points.dtype, device=points.device)
