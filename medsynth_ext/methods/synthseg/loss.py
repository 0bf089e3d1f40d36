"""The losses that SynthSeg is trained with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.losses import DiceLoss
from torch import Tensor, nn

__all__ = ["SynthSegLoss", "WarmUpLoss"]


class SynthSegLoss(nn.Module):
    """Soft Dice over all classes, background included, plus an optional weighted cross-entropy.

    ``dice = 1 - mean_k (2 sum p_k t_k + eps) / (sum (p_k^2 + t_k^2) + eps)`` per image with softmax probabilities p and
    one-hot target t (Billot et al., MedIA 2023).

    Args:
        dice_weight: weight of the Dice term.
        cross_entropy_weight: weight of the cross-entropy; the paper's loss has none.
        smooth: eps.
    """

    def __init__(self, *, dice_weight: float = 1.0, cross_entropy_weight: float = 0.0, smooth: float = 1e-7) -> None:
        super().__init__()
        self.dice_weight = dice_weight
        self.cross_entropy_weight = cross_entropy_weight
        form = {"include_background": True, "to_onehot_y": True, "softmax": True, "squared_pred": True}
        self.dice = DiceLoss(**form, smooth_nr=smooth, smooth_dr=smooth)

    def forward(
        self,
        pred: Tensor,  # (B, K, *S) logits
        target: Tensor,  # (B, 1, *S) class indices
    ) -> dict[str, Tensor]:
        """The total ``loss``, and the terms before weighting."""
        terms = {"dice_loss": self.dice(pred, target)}
        loss = self.dice_weight * terms["dice_loss"]
        if self.cross_entropy_weight > 0:
            terms["cross_entropy"] = F.cross_entropy(pred, target[:, 0].long())
            loss = loss + self.cross_entropy_weight * terms["cross_entropy"]
        return {"loss": loss, **terms}


class WarmUpLoss(nn.Module):
    """Weighted squared error of the logits: ``mean w (logit_k - 5 (2 t_k - 1))^2`` over classes and voxels.

    ``w`` is 1 in the foreground and ``background_weight`` in the background; the sum is divided by the sum of the
    weights. For the first steps only: it pulls the logits to +-5.

    Args:
        background_weight: weight of background voxels.
        scale: the logit that is wanted for the right class.
    """

    def __init__(self, *, background_weight: float = 1e-8, scale: float = 5.0) -> None:
        super().__init__()
        self.background_weight = background_weight
        self.scale = scale

    def forward(
        self,
        pred: Tensor,  # (B, K, *S) logits
        target: Tensor,  # (B, 1, *S) class indices
    ) -> dict[str, Tensor]:
        """The total ``loss``, and the same as ``warm_up_l2``."""
        wanted = torch.full_like(pred, -self.scale).scatter_(1, target.long(), self.scale)
        weight = torch.where(target > 0, 1.0, self.background_weight)  # (B, 1, *S)
        loss = (weight * (pred - wanted) ** 2).sum() / (weight.sum() * pred.shape[1])
        return {"loss": loss, "warm_up_l2": loss}
