"""The relativistic average form of a GAN: real images must look more real than generated ones do on average.

Averages are those of the batch of all processes.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from medsynth_ext.engines.processes import gather_batch

__all__ = ["relativistic_discriminator", "relativistic_generator"]


def relativistic_discriminator(
    real: Tensor,  # logits of real images
    fake: Tensor,  # logits of generated ones, of the same shape
) -> Tensor:  # scalar
    """``(BCE(r - mean(f), 1) + BCE(f - mean(r), 0)) / 2`` (Jolicoeur-Martineau, ICLR 2019).

    >>> round(relativistic_discriminator(torch.zeros(2, 1), torch.zeros(2, 1)).item(), 4)
    0.6931
    """
    above, below = _relative(real, fake)
    return 0.5 * (F.softplus(-above).mean() + F.softplus(below).mean())


def relativistic_generator(
    real: Tensor,  # logits of real images
    fake: Tensor,  # logits of generated ones, of the same shape
) -> Tensor:  # scalar
    """``(BCE(r - mean(f), 0) + BCE(f - mean(r), 1)) / 2``: both terms have a gradient to the generated images."""
    above, below = _relative(real, fake)
    return 0.5 * (F.softplus(above).mean() + F.softplus(-below).mean())


def _relative(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    if real.shape != fake.shape:
        raise ValueError(f"real and fake logits must have one shape, got {tuple(real.shape)} and {tuple(fake.shape)}")
    real, fake = real.float(), fake.float()
    return real - gather_batch(fake).mean(), fake - gather_batch(real).mean()
