"""How well an unknown number of points was found."""

from __future__ import annotations

from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric
from torch import Tensor

from medsynth_ext.ops import match_points

__all__ = ["PointDetection", "detection_scores"]

_SCORES = ("f1", "precision", "sensitivity")


def detection_scores(true_positive: float, false_positive: float, false_negative: float) -> dict[str, float]:
    """Precision, sensitivity and F1 of counts; 0 where a denominator is 0.

    >>> detection_scores(3, 1, 2)
    {'precision': 0.75, 'sensitivity': 0.6, 'f1': 0.6666666666666666}
    """
    predicted, labelled = true_positive + false_positive, true_positive + false_negative
    return {
        "precision": true_positive / predicted if predicted else 0.0,
        "sensitivity": true_positive / labelled if labelled else 0.0,
        "f1": 2 * true_positive / (predicted + labelled) if predicted + labelled else 0.0,
    }


class PointDetection(CumulativeIterationMetric):
    """Precision, sensitivity and F1 of predicted points against labels, as the AdaptOR challenge counts them.

    Points are matched one to one within a radius (see :func:`medsynth_ext.ops.match_points`); counts are summed over
    all frames before the scores are taken. A frame without predictions counts with all of its labels missed. Points are
    ``(B, P, D)`` and ``(B, L, D)``, padded with NaN, or lists of ``(P, D)``. For a cross-validation average the scores
    of the folds.

    Args:
        radius: largest distance of a match, itself included; 6 pixels at a width of 512 in the challenge.
        method: ``greedy`` or ``hungarian``.
        score: what :meth:`aggregate` returns: ``f1``, ``precision`` or ``sensitivity``.
    """

    def __init__(self, radius: float, *, method: str = "greedy", score: str = "f1") -> None:
        super().__init__()
        if score not in _SCORES:
            raise ValueError(f"score must be one of {', '.join(_SCORES)}, got {score!r}")
        self.radius = radius
        self.method = method
        self.score = score

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **_: Any) -> Tensor:
        if y is None:
            raise ValueError("y must hold the true points, got None")
        predictions, labels = (t.as_subclass(torch.Tensor) for t in (y_pred, y))
        pair = match_points(predictions, labels.to(predictions.device), self.radius, method=self.method)[0]
        matched = (pair >= 0).sum(1)
        there, wanted = ((~t.isnan().any(-1)).sum(1) for t in (predictions, labels))
        return torch.stack([matched, there - matched, wanted.to(matched.device) - matched], dim=1)  # (B, 3)

    def counts(self) -> Tensor:  # (frames, 3) int64: true positives, false positives, false negatives
        """Of every frame since the last reset."""
        data = self.get_buffer()
        if not isinstance(data, Tensor):
            raise ValueError("nothing was measured yet")
        return data

    def scores(self) -> dict[str, float]:
        """Counts and scores of all frames together."""
        tp, fp, fn = self.counts().sum(0).tolist()
        counts = {"true_positive": tp, "false_positive": fp, "false_negative": fn}
        return {**counts, **detection_scores(tp, fp, fn)}

    def aggregate(self) -> Tensor:
        """The chosen score of everything seen since the last reset."""
        return torch.tensor(self.scores()[self.score])
