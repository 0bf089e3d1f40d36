"""Adaptive instance normalisation (Huang and Belongie, ICCV 2017)."""

from __future__ import annotations

from torch import Tensor

__all__ = ["adain", "channel_statistics"]


def channel_statistics(x: Tensor) -> tuple[Tensor, Tensor]:  # (B, C, *S) -> mean and deviation, (B, C) each
    """Mean and (biased) standard deviation of every sample and channel over space.

    >>> mean, deviation = channel_statistics(torch.tensor([[[[1.0, 3.0]]]]))
    >>> mean.item(), deviation.item()
    (2.0, 1.0)
    """
    flat = x.flatten(2)
    # The clamp keeps the gradient of the root finite for a constant channel.
    variance = flat.var(dim=2, unbiased=False).clamp_min(1e-12)
    return flat.mean(dim=2), variance.sqrt()


def adain(
    x: Tensor,  # (B, C, *S)
    mean: Tensor,  # (B, C)
    deviation: Tensor,  # (B, C)
    eps: float = 1e-5,
) -> Tensor:  # (B, C, *S)
    """Give every channel of ``x`` this mean and deviation: ``(sd + eps) (x - mean(x)) / (sd(x) + eps) + mean``.

    >>> adain(torch.tensor([[[0.0, 2.0]]]), torch.tensor([[5.0]]), torch.tensor([[3.0]])).round(decimals=3).tolist()
    [[[2.0, 8.0]]]
    """
    own_mean, own_deviation = channel_statistics(x)
    scale = (deviation + eps) / (own_deviation + eps)
    offset = mean - scale * own_mean
    shape = list(mean.shape) + [1] * (x.dim() - 2)
    return x * scale.view(shape) + offset.view(shape)
