"""What the networks minimise, per frame."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from medsynth_ext.engines.processes import gather_batch

__all__ = ["DISTILLATIONS", "HeatmapLoss", "distillation", "mean_where"]

REDUCTIONS = ("pixel_sum", "pixel_mean")
DISTILLATIONS = ("half", "full", "mse")


class HeatmapLoss:
    """Squared error of every frame's heatmaps, weighted over the channels.

    Args:
        reduction: ``pixel_sum`` or ``pixel_mean``. With a mean over the 147,456 pixels of a frame, nearly all of them
            background, a rate that suits the sum moves nothing.
        scale: factor.
        link_weight: of the second channel, if there is one.

    Raises:
        ValueError: for another reduction.
    """

    def __init__(self, reduction: str = "pixel_mean", *, scale: float = 1.0, link_weight: float = 0.5) -> None:
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
        self.reduction = reduction
        self.scale = scale
        self.link_weight = link_weight

    def __call__(
        self,
        pred: Tensor,  # (B, C, H, W)
        target: Tensor,  # (B, C, H, W)
    ) -> Tensor:  # (B,)
        """The losses of a batch's frames."""
        if pred.shape != target.shape:
            raise ValueError(
                f"pred and target must have the same shape, got {tuple(pred.shape)} and {tuple(target.shape)}; "
                "relation 'links' needs a network with two channels, the others one with one"
            )
        square = (pred - target).square().flatten(2)
        error = square.sum(2) if self.reduction == "pixel_sum" else square.mean(2)  # (B, C)
        weights = error.new_tensor([1.0] + [self.link_weight] * (error.shape[1] - 1))
        return self.scale * (error * weights).sum(1)


def distillation(teacher: Tensor, student: Tensor, kind: str = "half") -> Tensor:  # (B,)
    """How far a network is from another one on the other one's frames, the mean over a frame's pixels.

    ``half`` is the paper's ``sigmoid(t) log(sigmoid(t) / sigmoid(s))``, one of the two parts of the Kullback-Leibler
    divergence of two coins. Alone it has no minimum at ``s = t``: it pushes the student up everywhere, weakly. ``full``
    has both parts, ``mse`` is the squared difference. No gradient reaches the teacher.

    >>> at = torch.zeros(1, 1, 1, 1)
    >>> [distillation(at, at + 1, kind).item() > 0 for kind in ("half", "full", "mse")]
    [False, True, True]
    """
    if kind not in DISTILLATIONS:
        raise ValueError(f"kind must be one of {', '.join(DISTILLATIONS)}, got {kind!r}")
    teacher = teacher.detach()
    if kind == "mse":
        return (student - teacher).square().flatten(1).mean(1)
    value = teacher.sigmoid() * (F.logsigmoid(teacher) - F.logsigmoid(student))
    if kind == "full":
        value = value + (-teacher).sigmoid() * (F.logsigmoid(-teacher) - F.logsigmoid(-student))
    return value.flatten(1).mean(1)


def mean_where(values: Tensor, chosen: Tensor) -> Tensor:
    """The mean of the chosen ``values`` ``(B, ...)`` of all processes, ``chosen`` being ``(B,)`` bool; 0 where none is.

    >>> mean_where(torch.tensor([1.0, 3.0, 8.0]), torch.tensor([True, True, False])).item()
    2.0
    """
    values, chosen = gather_batch(values), gather_batch(chosen)
    kept = values[chosen]
    return kept.mean() if kept.numel() else values.sum() * 0
