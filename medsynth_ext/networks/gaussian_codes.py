"""Draws from Gaussian codes: which numbers a sample gets is a function of the seed and its number alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from medsynth_ext import ops

__all__ = ["CODE_STREAM", "draw_codes"]

CODE_STREAM = 11  # of docs/random_numbers.md


def draw_codes(
    means: Sequence[Tensor],  # (B, ...) each
    deviations: Sequence[Tensor],  # like means
    *,
    seed: int,
    first: int = 0,
    factor: float = 1.0,
    stream: int = CODE_STREAM,
) -> list[Tensor]:  # like means
    """``mean + factor * deviation * noise`` for codes in several parts; differentiable in means and deviations.

    Args:
        means: of every part.
        deviations: of every part.
        seed: key of the noise.
        first: number of the first sample.
        factor: on the deviations.
        stream: of random numbers.
    """
    sizes = [math.prod(part.shape[1:]) for part in means]
    noise = ops.rand_normal((len(means[0]), 1, sum(sizes)), seed, sample_offset=first, stream=stream)[:, 0]
    parts = noise.to(means[0]).split(sizes, 1)
    return [
        mean + factor * deviation * part.view_as(mean)
        for mean, deviation, part in zip(means, deviations, parts, strict=True)
    ]
