"""The divergence of Gaussian codes from the standard normal distribution."""

from __future__ import annotations

from torch import Tensor

from medsynth_ext.engines.processes import gather_batch

__all__ = ["KL_FORMS", "gaussian_kl"]

KL_FORMS = ("exact", "paper")


def gaussian_kl(mean: Tensor, deviation: Tensor, *, form: str = "exact", free_bits: float = 0.0) -> Tensor:
    """Mean over all entries of the divergence of N(mean, deviation^2) from N(0, 1), in nats.

    ``exact`` is ``(mean^2 + s^2 - log s^2 - 1) / 2``. ``paper`` has ``mean^2 / s^2`` in place of ``mean^2``, as printed
    and coded by Hung and Galeotti (DGM4MICCAI 2021): neither direction of the divergence, kept for their weights.

    Args:
        mean: of every entry.
        deviation: of every entry, above 0.
        form: ``exact`` or ``paper``.
        free_bits: an entry's divergence, averaged over the batch of all processes, counts only above this.

    Raises:
        ValueError: for another form or negative free bits.

    >>> import torch
    >>> gaussian_kl(torch.tensor([[1.0]]), torch.tensor([[1.0]])).item()
    0.5
    """
    if form not in KL_FORMS:
        raise ValueError(f"form must be one of {', '.join(KL_FORMS)}, got {form!r}")
    if free_bits < 0:
        raise ValueError(f"free_bits must not be negative, got {free_bits}")
    variance = deviation**2
    squared = mean**2 / variance if form == "paper" else mean**2
    entries = 0.5 * (squared + variance - variance.log() - 1)
    if free_bits > 0:
        entries = gather_batch(entries).mean(0).clamp_min(free_bits)
    return entries.mean()
