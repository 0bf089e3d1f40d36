"""A distance between images in the feature space of a fixed network."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["FeatureDistance"]


class FeatureDistance(nn.Module):
    """``sum_l w_l mean |phi_l(image) - phi_l(target)|`` (Johnson et al., ECCV 2016), zero without features.

    Args:
        features: maps an image to a list of features, for example ``VGGFeatures``; ``None`` switches the loss off.
        weights: one per layer.

    Raises:
        ValueError: when features and weights differ in number, found in the first call.
    """

    def __init__(
        self, features: nn.Module | None, *, weights: Sequence[float] = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)
    ) -> None:
        super().__init__()
        self.features = features
        self.weights = tuple(float(w) for w in weights)

    def forward(self, image: Tensor, target: Tensor) -> Tensor:  # (B, C, H, W) both; no gradient to the target
        if self.features is None:
            return image.new_zeros(())
        found, wanted = self.features(image), self.features(target.detach())
        if len(found) != len(self.weights):
            raise ValueError(f"weights must hold one number per layer, got {len(self.weights)} for {len(found)} layers")
        terms = [w * F.l1_loss(a, b.detach()) for w, a, b in zip(self.weights, found, wanted, strict=True)]
        return sum(terms, start=image.new_zeros(()))
