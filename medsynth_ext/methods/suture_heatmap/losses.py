"""Losses between a map of logits and a heatmap, beside MONAI's ``DiceLoss``."""

from __future__ import annotations

from monai.losses import DiceLoss
from torch import Tensor, nn

__all__ = ["HeatmapMSELoss"]


class HeatmapMSELoss(nn.Module):
    """``mse_weight * mean((sigmoid(logit) - target)^2) + dice_weight * (1 - Dice)``, over the whole batch.

    The challenge's baseline has both weights 1; without Dice the optimum is the heatmap itself, whereas Dice with
    linear denominators makes flat discs of Gaussians.

    Args:
        mse_weight: of the mean square.
        dice_weight: of the Dice loss.
    """

    def __init__(self, *, mse_weight: float = 1.0, dice_weight: float = 0.0) -> None:
        super().__init__()
        self.mse_weight = mse_weight
        self.dice_weight = dice_weight
        self.dice = DiceLoss(sigmoid=True, batch=True, smooth_nr=1.0, smooth_dr=1.0)

    def forward(
        self,
        logits: Tensor,  # (B, 1, H, W)
        target: Tensor,  # (B, 1, H, W) in [0, 1]
    ) -> Tensor:
        loss = self.mse_weight * (logits.sigmoid() - target).square().mean()
        return loss + self.dice_weight * self.dice(logits, target) if self.dice_weight else loss
