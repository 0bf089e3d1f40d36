"""The heatmaps that the network is trained to give."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medsynth_ext.methods.relation_heatmap.links import nearest_neighbours, render_links
from medsynth_ext.ops import render_point_map

__all__ = ["RELATIONS", "PointTarget"]

RELATIONS = ("none", "adaptive", "links")


class PointTarget:
    """All points of a frame in one map; what their relation adds is a choice, since the paper does not define it.

    ``none``: Gaussians of one width. ``adaptive``: the width is a share of the distance to the nearest other point,
    within limits. ``links``: a second channel with the segments between nearest neighbours.

    Args:
        sigma: width of a Gaussian in pixels, and the largest one of ``adaptive``.
        window: half width of a Gaussian's square in pixels.
        center: ``exact``, or ``trunc`` for points cut to whole pixels.
        merge: ``max`` or ``sum_clip`` where Gaussians overlap.
        relation: ``none``, ``adaptive`` or ``links``.
        share: of the distance, for ``adaptive``.
        smallest_sigma: for ``adaptive``.
        link_sigma: width of a line's profile in pixels, for ``links``.

    Raises:
        ValueError: for another relation, or widths that are not positive.
    """

    def __init__(
        self,
        *,
        sigma: float = 5.0,
        window: float | None = 24,
        center: str = "exact",
        merge: str = "max",
        relation: str = "none",
        share: float = 0.25,
        smallest_sigma: float = 2.0,
        link_sigma: float = 2.0,
    ) -> None:
        if relation not in RELATIONS:
            raise ValueError(f"relation must be one of {', '.join(RELATIONS)}, got {relation!r}")
        if min(smallest_sigma, sigma, link_sigma, share) <= 0:
            widths = f"{sigma}, {smallest_sigma}, {link_sigma} and {share}"
            raise ValueError(f"sigma, smallest_sigma, link_sigma and share must be positive, got {widths}")
        if relation == "adaptive" and smallest_sigma > sigma:
            raise ValueError(f"smallest_sigma must not exceed sigma, got {smallest_sigma} and {sigma}")
        self.sigma = sigma
        self.options = {"window": window, "center": center, "merge": merge}
        self.relation = relation
        self.share = share
        self.smallest_sigma = smallest_sigma
        self.link_sigma = link_sigma

    @torch.no_grad()
    def __call__(
        self,
        points: Tensor,  # (B, K, 2) as (y, x), NaN where there is none
        size: Sequence[int],
    ) -> Tensor:  # (B, 1 or 2, *size) float32
        """Draw the targets of a batch."""
        points = points.float()
        valid = ~points.isnan().any(-1)
        points = torch.where(valid[..., None], points, 0)
        sigma: float | Tensor = self.sigma
        if self.relation == "adaptive":
            least, _ = nearest_neighbours(points, valid)
            sigma = (self.share * least).clamp(self.smallest_sigma, self.sigma)
        drawn = render_point_map(points, valid, size, sigma, **self.options)  # type: ignore[arg-type]
        if self.relation != "links":
            return drawn
        return torch.cat([drawn, render_links(points, valid, size, self.link_sigma)], 1)
