"""The losses that SynthSeg is trained with."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsynth_ext.engines.processes import gather_batch

__all__ = ["SynthSegLoss", "WarmUpLoss"]


class _SoftDiceAndCrossEntropy(torch.autograd.Function):
    """Both terms from one softmax, with the gradient written out.

    With K = 33 classes the one-hot targets and intermediate products of a composed loss cost more time and memory than
    the last layers of the network; this keeps the probabilities alone.
    """

    @staticmethod
    def forward(ctx: Any, pred: Tensor, target: Tensor, smooth: float) -> tuple[Tensor, Tensor]:
        batch, classes = pred.shape[:2]
        labels = target.reshape(batch, -1, 1).long()  # (B, N, 1)
        log_p = F.log_softmax(pred.movedim(1, -1).reshape(batch, -1, classes), dim=2)  # (B, N, K)
        log_p_true = log_p.gather(2, labels)[..., 0]  # (B, N)
        p = log_p.exp_()
        count = torch.stack([torch.bincount(row, minlength=classes) for row in labels[..., 0]]).to(p.dtype)
        overlap = torch.zeros_like(count).scatter_add_(1, labels[..., 0], log_p_true.exp())
        above = 2 * overlap + smooth
        below = (p * p).sum(1) + count + smooth
        ctx.save_for_backward(p, labels, above, below)
        ctx.shape = pred.shape
        return 1 - (above / below).mean(), -log_p_true.mean()

    @staticmethod
    def backward(ctx: Any, grad_dice: Tensor, grad_ce: Tensor) -> tuple[Tensor, None, None]:
        p, labels, above, below = ctx.saved_tensors
        batch, voxels, classes = p.shape
        scale = grad_dice / (batch * classes)
        # d(1 - dice)/dp, then through the softmax: p * (g - sum g p)
        grad = p * (2 * scale * above / below**2)[:, None]
        own = torch.gather(2 * scale / below, 1, labels[..., 0])
        grad.scatter_add_(2, labels, -own[..., None])
        grad.sub_((grad * p).sum(2, keepdim=True)).mul_(p)
        weight = grad_ce / (batch * voxels)
        grad.add_(p * weight).scatter_add_(2, labels, -weight.expand(batch, voxels, 1))
        return grad.movedim(2, 1).reshape(ctx.shape), None, None


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
        self.smooth = smooth

    def forward(
        self,
        pred: Tensor,  # (B, K, *S) logits
        target: Tensor,  # (B, 1, *S) class indices
    ) -> dict[str, Tensor]:
        """The total ``loss``, and the terms before weighting.

        Raises:
            ValueError: when the shapes do not fit each other.
        """
        if target.shape != (pred.shape[0], 1, *pred.shape[2:]):
            raise ValueError(f"target must be {(pred.shape[0], 1, *pred.shape[2:])}, got {tuple(target.shape)}")
        dice, cross_entropy = _SoftDiceAndCrossEntropy.apply(pred, target, self.smooth)
        loss = self.dice_weight * dice
        if self.cross_entropy_weight == 0:
            return {"loss": loss, "dice_loss": dice}
        return {
            "loss": loss + self.cross_entropy_weight * cross_entropy,
            "dice_loss": dice,
            "cross_entropy": cross_entropy,
        }


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
        per_process = gather_batch(weight.sum()[None]).mean()  # so that the mean over processes is that of all voxels
        loss = (weight * (pred - wanted) ** 2).sum() / (per_process * pred.shape[1])
        return {"loss": loss, "warm_up_l2": loss}
