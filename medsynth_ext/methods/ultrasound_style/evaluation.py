"""How well a transfer does: its loss on pairs, and speckle compared with that of the style image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric
from torch import Tensor

__all__ = ["SpeckleDistance", "TransferLossMetric", "prepare_styled_batch", "speckle_figures"]


def prepare_styled_batch(
    batch: Mapping[str, Any], device: torch.device | str, non_blocking: bool = False, **_: Any
) -> tuple[Tensor, Tensor, tuple, dict[str, Tensor]]:
    """``prepare_batch`` of an evaluator: content image; content and style as channels; the style for the network."""
    image, style = (batch[key].to(device, non_blocking=non_blocking) for key in ("image", "style"))
    both = torch.cat([image.as_subclass(Tensor), style.as_subclass(Tensor)], 1)
    return image, both, (), {"style": style.as_subclass(Tensor)}


class TransferLossMetric(CumulativeIterationMetric):
    """Mean of the loss without its divergence over pairs.

    Args:
        loss: a :class:`StyleTransferLoss`.
        term: ``content``, ``style``, or ``None`` for their sum.
    """

    def __init__(self, loss: Callable[..., Mapping[str, Tensor]], *, term: str | None = None) -> None:
        super().__init__()
        self.loss = loss
        self.term = term

    @torch.no_grad()
    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **_: Any) -> Tensor:  # (B, 1)
        assert y is not None
        values = []
        for pred, both in zip(y_pred.float().split(1), y.float().split(1), strict=True):
            terms = self.loss(pred, both[:, :1], both[:, 1:])
            values.append(torch.stack(list(terms.values())).sum() if self.term is None else terms[self.term])
        return torch.stack(values)[:, None]

    def aggregate(self) -> Tensor:
        """Mean over all pairs since the last reset."""
        return self.get_buffer().mean()


def speckle_figures(image: Tensor) -> dict[str, Tensor]:  # (B, 1, H, W) in [0, 1] -> (B,) each
    """First- and second-order statistics of a picture's grey levels.

    ``mean`` and ``range`` (from the 5th to the 95th percentile) of the levels; Nakagami's shape and scale by moments,
    ``E[x^2]^2 / var(x^2)`` and ``E[x^2]``; and the lags in pixels along depth and across at which the autocorrelation
    of the picture without its local mean falls to a half.
    """
    x = image[:, 0].float()
    flat = x.flatten(1)
    power = flat**2
    low, high = (flat.quantile(q, dim=1) for q in (0.05, 0.95))
    fine = x - torch.nn.functional.avg_pool2d(x[:, None], 15, 1, 7, count_include_pad=False)[:, 0]
    return {
        "mean": flat.mean(1),
        "range": high - low,
        "nakagami_shape": power.mean(1) ** 2 / power.var(1, unbiased=False).clamp_min(1e-12),
        "nakagami_scale": power.mean(1),
        "axial_lag": _half_width(fine, 1),
        "lateral_lag": _half_width(fine, 2),
    }


def _half_width(x: Tensor, axis: int) -> Tensor:  # (B, H, W) -> (B,)
    """Lag at which the autocorrelation along an axis first falls to a half, between lags by a straight line."""
    length = x.shape[axis]
    spectrum = torch.fft.rfft(x, 2 * length, dim=axis).abs() ** 2
    correlation = torch.fft.irfft(spectrum, 2 * length, dim=axis).movedim(axis, 1)[:, :length].sum(2)
    count = torch.arange(length, 0, -1, device=x.device)
    correlation = correlation / count
    correlation = correlation / correlation[:, :1].clamp_min(1e-12)
    below = (correlation < 0.5).float()
    at = below.argmax(1).clamp_min(1)
    after, before = (correlation.gather(1, (at - d)[:, None])[:, 0] for d in (0, 1))
    lag = at - 1 + (before - 0.5) / (before - after).clamp_min(1e-6)
    return torch.where(below.any(1), lag, float(length))


class SpeckleDistance(CumulativeIterationMetric):
    """Mean relative difference of one of the :func:`speckle_figures` between outputs and style images."""

    def __init__(self, figure: str) -> None:
        super().__init__()
        self.figure = figure

    @torch.no_grad()
    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **_: Any) -> Tensor:  # (B, 1)
        assert y is not None
        made, wanted = (speckle_figures(x.as_subclass(Tensor))[self.figure] for x in (y_pred, y[:, 1:]))
        return ((made - wanted).abs() / wanted.abs().clamp_min(1e-6))[:, None]

    def aggregate(self) -> Tensor:
        """Mean over all pairs since the last reset."""
        return self.get_buffer().mean()
