"""From probability maps to points: the method's regions, and the baseline's threshold."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medsynth_ext import ops

__all__ = ["RegionPoints", "ThresholdPoints"]

Decoded = tuple[Tensor, Tensor, Tensor, Tensor]  # points (B, K, 2), scores (B, K), counts (B,), overflow (B,)


@dataclass(frozen=True)
class RegionPoints:
    """Otsu's threshold, opening, centroids of regions, large regions cut in two; see ``ops.split_regions``.

    Args:
        kappa: regions above this many mean areas are cut; 1 as published.
        single_area: pixels of the region of one point, to compare with in place of the mean, which is of no use where
            most pairs have fused; for the discs of a Dice loss with linear denominators ``pi (1.514 sigma)^2``.
        min_peak: a map that is nowhere as high holds no point (Otsu's threshold splits noise as well); 0 as published.
        min_area: regions of fewer pixels give no point; 0 as published.
        opening: side of the square of the opening; 1 for none.
        weighted: centroids weighted by the map.
        max_points: most points of a frame.
    """

    kappa: float = 1.5
    single_area: float | None = None
    min_peak: float = 0.0
    min_area: int = 0
    opening: int = 3
    weighted: bool = False
    max_points: int = 256

    def __call__(self, prob: Tensor) -> Decoded:  # (B, 1, H, W) in [0, 1]
        q = ops.quantize_probability(prob)
        mask = ops.otsu_threshold(q)[1]
        if self.min_peak > 0:
            mask = mask & (prob.nan_to_num(nan=0.0).amax((1, 2, 3), keepdim=True) >= self.min_peak)
        if self.opening > 1:
            mask = ops.binary_opening(mask, self.opening)
        labels = ops.connected_components(mask, connectivity=8)
        return ops.split_regions(
            labels,
            q,
            kappa=self.kappa,
            single_area=self.single_area,
            min_area=self.min_area,
            max_points=self.max_points,
            weighted=self.weighted,
        )


@dataclass(frozen=True)
class ThresholdPoints:
    """Centroids of the 8-connected regions above a threshold, as the challenge's baseline takes them.

    Args:
        threshold: least probability.
        max_points: most points of a frame.
    """

    threshold: float = 0.5
    max_points: int = 256

    def __call__(self, prob: Tensor) -> Decoded:  # (B, 1, H, W) in [0, 1]
        labels = ops.connected_components(torch.ge(prob, self.threshold), connectivity=8)
        q = ops.quantize_probability(prob)
        return ops.split_regions(labels, q, kappa=float("inf"), max_points=self.max_points)
