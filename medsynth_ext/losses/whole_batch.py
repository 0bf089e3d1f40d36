"""A loss of the batch of all processes."""

from __future__ import annotations

from torch import Tensor, nn

from medsynth_ext.engines.processes import gather_batch

__all__ = ["WholeBatchLoss"]


class WholeBatchLoss(nn.Module):
    """``loss(pred, target)`` of the batch of all processes, the same on each.

    For losses that are no mean over samples, such as the Dice of a whole batch. In one process it is the loss itself.

    Args:
        loss: of predictions and targets (B, ...).
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return self.loss(gather_batch(pred), gather_batch(target))
