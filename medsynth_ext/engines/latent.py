"""Generative latent optimisation (Bojanowski et al., ICML 2018): one learned latent per sample, then a Gaussian."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medsynth_ext import ops

__all__ = ["LatentGaussian", "LatentTable"]

_FIRST_STREAM, _SAMPLE_STREAM = 8, 9  # of docs/random_numbers.md


class LatentTable(nn.Module):
    """One latent per training sample, drawn from N(0, I) by (seed, sample).

    Every latent is a parameter of its own, so that an optimiser leaves those alone that a batch does not hold.

    Args:
        count: number of samples.
        size: length of a latent.
        seed: key of the first values.
    """

    def __init__(self, count: int, size: int, *, seed: int = 0) -> None:
        super().__init__()
        first = ops.rand_normal((count, 1, size), seed, stream=_FIRST_STREAM)[:, 0]
        self.rows = nn.ParameterList([nn.Parameter(row.clone()) for row in first])

    def forward(self, index: Sequence[int]) -> Tensor:  # (B, size)
        """The latents of some samples."""
        return torch.stack([self.rows[i] for i in index])

    @torch.no_grad()
    def set(self, index: Sequence[int], values: Tensor) -> None:  # (B, size)
        """Replace the latents of some samples."""
        for i, value in zip(index, values, strict=True):
            self.rows[i].copy_(value)


class LatentGaussian:
    """A normal distribution of latents from their moments.

    With fewer samples than dimensions the covariance S has no full rank, so it is drawn towards a sphere:
    ``(1 - shrinkage) S + shrinkage tr(S) / d I``.

    Args:
        mean: (d,).
        covariance: (d, d) of the sample, divided by ``count``.
        count: number of latents behind them.
        shrinkage: share of the sphere, 0 to 1.

    Raises:
        ValueError: for a shrinkage out of range.
    """

    def __init__(self, mean: Tensor, covariance: Tensor, count: int, *, shrinkage: float = 0.2) -> None:
        if not 0 <= shrinkage <= 1:
            raise ValueError(f"shrinkage must be between 0 and 1, got {shrinkage}")
        self.mean, self.covariance, self.count, self.shrinkage = mean, covariance, count, shrinkage

    @classmethod
    def fit(cls, latents: Tensor, *, shrinkage: float = 0.2) -> LatentGaussian:  # (N, d)
        """Moments of latents."""
        latents = latents.detach().double()
        if latents.ndim != 2 or not len(latents):
            raise ValueError(f"latents must be (N, d) with at least one row, got {tuple(latents.shape)}")
        mean = latents.mean(0)
        centred = latents - mean
        return cls(mean, centred.T @ centred / len(latents), len(latents), shrinkage=shrinkage)

    @classmethod
    def pooled(cls, parts: Iterable[LatentGaussian]) -> LatentGaussian:
        """The moments of all latents together, from those of disjoint groups; exact.

        >>> x = torch.randn(9, 3)
        >>> both = LatentGaussian.pooled([LatentGaussian.fit(x[:4]), LatentGaussian.fit(x[4:])])
        >>> torch.allclose(both.covariance, LatentGaussian.fit(x).covariance)
        True
        """
        groups = list(parts)
        if not groups:
            raise ValueError("there must be at least one group of latents to pool")
        count = sum(g.count for g in groups)
        mean = torch.stack([g.mean * (g.count / count) for g in groups]).sum(0)
        spread = [g.covariance + torch.outer(g.mean - mean, g.mean - mean) for g in groups]
        covariance = torch.stack([s * (g.count / count) for s, g in zip(spread, groups, strict=True)]).sum(0)
        return cls(mean, covariance, count, shrinkage=groups[0].shrinkage)

    def shrunk(self) -> Tensor:  # (d, d)
        """The covariance that is sampled."""
        size = len(self.mean)
        sphere = self.covariance.trace() / size * torch.eye(size, dtype=self.covariance.dtype)
        return (1 - self.shrinkage) * self.covariance + self.shrinkage * sphere

    def sample(self, count: int, *, seed: int, first: int = 0, attempt: int = 0) -> Tensor:  # (count, d) float32
        """Draw latents; number n is a function of (seed, first + n, attempt)."""
        noise = ops.rand_normal((count, attempt + 1, len(self.mean)), seed, sample_offset=first, stream=_SAMPLE_STREAM)[
            :, attempt
        ]
        values, vectors = torch.linalg.eigh(self.shrunk())
        root = vectors * values.clamp_min(0).sqrt()  # with every sign of a column as likely as the other
        return (self.mean + noise.double() @ root.T).float()

    def state_dict(self) -> dict[str, Any]:
        """Everything, as plain tensors and numbers."""
        return {name: getattr(self, name) for name in ("mean", "covariance", "count", "shrinkage")}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> LatentGaussian:
        """The distribution of :meth:`state_dict`."""
        return cls(state["mean"], state["covariance"], int(state["count"]), shrinkage=float(state["shrinkage"]))
