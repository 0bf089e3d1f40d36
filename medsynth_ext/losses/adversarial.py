"""Hinge losses of a multi-scale patch discriminator and the matching of its features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["feature_matching", "hinge_discriminator", "hinge_generator"]

Scales = Sequence[Sequence[Tensor]]  # outputs of every stage of every scale, the decision last


def hinge_discriminator(real: Scales, fake: Scales) -> Tensor:
    """``mean relu(1 - D(real)) + mean relu(1 + D(fake))``, the mean over the scales.

    >>> hinge_discriminator([[torch.tensor([2.0, 0.5])]], [[torch.tensor([-3.0, 0.0])]]).item()
    0.75
    """
    terms = [F.relu(1 - r[-1]).mean() + F.relu(1 + f[-1]).mean() for r, f in zip(real, fake, strict=True)]
    return torch.stack(terms).mean()


def hinge_generator(fake: Scales) -> Tensor:
    """``-mean D(fake)``, the mean over the scales."""
    return -torch.stack([outputs[-1].mean() for outputs in fake]).mean()


def feature_matching(real: Scales, fake: Scales) -> Tensor:
    """Mean absolute difference of every stage but the decision, summed over the stages, the mean over the scales.

    No gradient reaches the real features.
    """
    terms = [
        sum(F.l1_loss(f, r.detach()) for r, f in zip(reals[:-1], fakes[:-1], strict=True))
        for reals, fakes in zip(real, fake, strict=True)
    ]
    return torch.stack([torch.as_tensor(term) for term in terms]).mean()
