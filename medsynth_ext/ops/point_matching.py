"""One-to-one matching of predicted with true points within a radius."""

from __future__ import annotations

import math

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from medsynth_ext.ops._checks import check_float, check_same, one_of
from medsynth_ext.ops._precision import widened

__all__ = ["match_points"]


def match_points(
    predictions: Tensor,  # (B, P, D)
    labels: Tensor,  # (B, L, D)
    radius: float,
    *,
    method: str = "greedy",
    valid_predictions: Tensor | None = None,  # (B, P) bool
    valid_labels: Tensor | None = None,  # (B, L) bool
) -> tuple[Tensor, Tensor]:  # (B, P) int64, (B, P) float64
    """For every prediction the label that it is matched with, or -1, and the distance, else NaN.

    ``greedy`` takes the closest pair within the radius (``distance <= radius``) of points that are still free, again
    and again; of equally close pairs the one with the highest prediction, then the highest label, as the AdaptOR
    challenge's script does. ``hungarian`` matches as many pairs as possible, with the least sum of distances among
    those (on the CPU, one sample after another). Points with NaN take no part. Distances are in float64.

    Args:
        predictions: predicted points.
        labels: true points.
        radius: largest distance of a pair.
        method: ``greedy`` or ``hungarian``.
        valid_predictions: which predictions take part; all without NaN by default.
        valid_labels: which labels do.

    >>> match_points(torch.tensor([[[10.0, 10.0], [10.0, 22.0]]]), torch.tensor([[[10.0, 16.0]]]), 6.0)[0].tolist()
    [[-1, 0]]
    """
    predictions, labels = widened(predictions), widened(labels)
    for name, points in (("predictions", predictions), ("labels", labels)):
        check_float(name, points)
        if points.ndim != 3:
            raise ValueError(f"{name} must be (B, number, D), got {tuple(points.shape)}")
    check_same("labels", labels, "predictions", predictions, dtype=False)
    if predictions.shape[0] != labels.shape[0] or predictions.shape[2] != labels.shape[2]:
        raise ValueError(
            "predictions and labels must have the same batch and axes, "
            f"got {tuple(predictions.shape)} and {tuple(labels.shape)}"
        )
    one_of("method", method, ("greedy", "hungarian"))
    if not 0 <= radius < math.inf:
        raise ValueError(f"radius must be finite and not negative, got {radius}")
    difference = predictions.detach().double()[:, :, None] - labels.detach().double()[:, None]
    distance = difference.square().sum(-1).sqrt()  # (B, P, L)
    free = distance <= radius  # false for NaN
    for name, mask, shape in (
        ("valid_predictions", valid_predictions, predictions.shape[:2]),
        ("valid_labels", valid_labels, labels.shape[:2]),
    ):
        if mask is not None:
            if mask.dtype != torch.bool or mask.shape != shape:
                raise ValueError(f"{name} must be bool {tuple(shape)}, got {mask.dtype} {tuple(mask.shape)}")
            free = free & mask.unsqueeze(2 if name == "valid_predictions" else 1)
    pair = _greedy(distance, free) if method == "greedy" else _hungarian(distance, free)
    if labels.shape[1] == 0:
        return pair, torch.full(pair.shape, math.nan, dtype=torch.float64, device=pair.device)
    found = distance.gather(2, pair.clamp(min=0)[..., None])[..., 0]
    return pair, found.masked_fill(pair < 0, math.nan)


def _greedy(distance: Tensor, free: Tensor) -> Tensor:
    batch, count, others = distance.shape
    pair = torch.full((batch, count), -1, dtype=torch.int64, device=distance.device)
    if not pair.numel() or not others:
        return pair
    place = torch.arange(count * others, device=distance.device)
    left = torch.where(free, distance, math.inf).flatten(1)  # (B, P * L)
    for _ in range(min(count, others)):
        least = left.amin(1, keepdim=True)
        last = torch.where(left == least, place, -1).amax(1)  # the last of the closest pairs
        i, j = last // others, last % others
        taken = least[:, 0] < math.inf
        old = pair.gather(1, i[:, None])[:, 0]
        pair.scatter_(1, i[:, None], torch.where(taken, j, old)[:, None])
        grid = left.view(batch, count, others)
        same_row = torch.arange(count, device=i.device)[:, None] == i[:, None, None]
        same_column = torch.arange(others, device=j.device) == j[:, None, None]
        left = grid.masked_fill(same_row | same_column, math.inf).flatten(1)
    return pair


def _hungarian(distance: Tensor, free: Tensor) -> Tensor:
    pair = torch.full(distance.shape[:2], -1, dtype=torch.int64)
    for b, (d, allowed) in enumerate(zip(distance.cpu(), free.cpu(), strict=True)):
        # A forbidden pair costs more than all allowed ones together, so the number of matches comes first.
        beyond = 1 + float(torch.where(allowed, d, 0).sum())
        rows, columns = linear_sum_assignment(torch.where(allowed, d, beyond).numpy())
        for i, j in zip(rows.tolist(), columns.tolist(), strict=True):
            if allowed[i, j]:
                pair[b, i] = j
    return pair.to(distance.device)
