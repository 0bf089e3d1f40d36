"""How far two networks' beliefs lie apart."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["REDUCTIONS", "jensen_shannon"]

REDUCTIONS = ("position", "all")


def jensen_shannon(
    logits_a: Tensor,  # (B, C, ...)
    logits_b: Tensor,  # (B, C, ...)
    *,
    reduction: str = "position",
) -> Tensor:  # scalar
    """Jensen-Shannon divergence of the softmax over axis 1, in nats; differentiable in both.

    ``(KL(a | m) + KL(b | m)) / 2`` with ``m = (a + b) / 2``, computed from log-probabilities, so that no probability is
    too small.

    Args:
        logits_a: of one network.
        logits_b: of the other.
        reduction: ``position``, the mean over batch and positions, at most ln 2; ``all`` divides by the number of
            channels too, at most ln 2 / C.

    Raises:
        ValueError: for shapes that differ or lack a channel axis, or another reduction.

    >>> far = torch.tensor([[1e4, -1e4]])
    >>> round(jensen_shannon(far, -far).item(), 4)
    0.6931
    """
    if logits_a.shape != logits_b.shape or logits_a.ndim < 2:
        raise ValueError(f"logits must both be (B, C, ...), got {tuple(logits_a.shape)} and {tuple(logits_b.shape)}")
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    a, b = F.log_softmax(logits_a.float(), 1), F.log_softmax(logits_b.float(), 1)
    middle = torch.logaddexp(a, b) - math.log(2)
    total = 0.5 * (
        F.kl_div(middle, a, reduction="sum", log_target=True) + F.kl_div(middle, b, reduction="sum", log_target=True)
    )
    positions = logits_a.numel() // logits_a.shape[1]
    return total / (positions if reduction == "position" else logits_a.numel())
