"""Another method's detector of points, as the claims compare with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

__all__ = ["Rival"]


@dataclass(frozen=True)
class Rival:
    """A detector that the bundle's config puts together; it trains on the frames of joint training.

    Args:
        network: makes the network with fresh weights; it maps frames to logits of the same size.
        loss: of a batch's logits and heatmaps, both (B, 1, H, W).
        decoder: from probabilities (B, 1, H, W) to points (B, K, 2), NaN where there is none, and whatever else.
        sigma: of the Gaussians, pixels.
        window: half width of their squares.
        steps: training steps.
        learning_rate: of Adam at the beginning, a hundredth of it at the end.
    """

    network: Callable[[], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor]
    decoder: Callable[[Tensor], tuple[Tensor, ...]]
    sigma: float
    window: float
    steps: int
    learning_rate: float
