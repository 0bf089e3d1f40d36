"""From heatmaps to points and their scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from medsynth_ext.methods.relation_heatmap.network import PointHeatmapNet
from medsynth_ext.ops import heatmap_peaks_maxpool

__all__ = ["PeakDecoder", "count_bounds"]


def count_bounds(counts: Sequence[int], percentiles: Sequence[float] = (5.0, 95.0)) -> tuple[int, int]:
    """The number of points that few frames fall short of and few exceed, rounded outwards.

    >>> count_bounds([3, 4, 4, 5, 9], (25, 75))
    (4, 5)

    Raises:
        ValueError: without a frame, or for percentiles that are not in order in [0, 100].
    """
    low, high = percentiles
    if not 0 <= low <= high <= 100:
        raise ValueError(f"percentiles must be in order in [0, 100], got {list(percentiles)}")
    if len(counts) == 0:
        raise ValueError("the bounds on the number of points need at least one labelled frame of the target domain")
    lower, upper = np.percentile(np.asarray(counts), [low, high])
    return int(np.floor(lower)), int(np.ceil(upper))


class PeakDecoder:
    """Local maxima, smoothed before and refined after, and a rule for how many; see ``ops.heatmap_peaks_maxpool``.

    The rules: ``v1`` gives at least 10 points; ``v2`` between ``lower`` and ``upper``, in between those that reach the
    threshold; ``score`` those that reach it.

    Args:
        network: whose ``count_bounds`` are the bounds of ``v2`` where ``lower`` and ``upper`` are not given.
        rule: ``v1``, ``v2`` or ``score``.
        lower: fewest points.
        upper: most points.
        topk: most candidates.
        options: ``threshold``, ``kernel``, ``presmooth_sigma``, ``ties``, ``floor`` and ``refine`` of the operator.

    Raises:
        ValueError: for ``v2`` without a network when a bound is not given.
    """

    def __init__(
        self,
        network: PointHeatmapNet | None = None,
        *,
        rule: str = "v2",
        lower: int | None = None,
        upper: int | None = None,
        topk: int = 30,
        **options: float | int | str,
    ) -> None:
        if rule == "v2" and network is None and (lower is None or upper is None):
            raise ValueError("rule 'v2' needs lower and upper, or a network that was trained with count bounds")
        self.network = network
        self.rule = rule
        self.lower = lower
        self.upper = upper
        self.topk = topk
        self.options = options

    def bounds(self) -> tuple[int | None, int | None]:
        """Fewest and most points; ``None`` for the rule's own."""
        if self.rule != "v2" or self.network is None:
            return self.lower, self.upper
        lower, upper = (min(int(n), self.topk) for n in self.network.count_bounds)
        return (lower if self.lower is None else self.lower), (upper if self.upper is None else self.upper)

    @torch.no_grad()
    def __call__(
        self,
        heatmaps: Tensor,  # (B, C, H, W)
    ) -> tuple[Tensor, Tensor, Tensor]:  # (B, topk, 2) as (y, x), (B, topk), (B,) int64
        """Points, padded with NaN, and scores of every frame, the best first, and how many there are."""
        lower, upper = self.bounds()
        return heatmap_peaks_maxpool(
            heatmaps[:, :1].as_subclass(torch.Tensor).float().contiguous(),
            rule=self.rule,
            lower=lower,
            upper=upper,
            topk=self.topk,
            **self.options,  # type: ignore[arg-type]
        )
