"""How far a fixed set of landmarks was missed, in millimetres."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric
from torch import Tensor

__all__ = ["LandmarkError"]


class LandmarkError(CumulativeIterationMetric):
    """Radial error of every landmark, its mean, and the share of landmarks within given radii.

    Landmarks are ``(B, N, D)``. One that is not labelled (NaN) is not measured. One that is labelled but was not
    predicted (NaN) has no error; it is counted as missing and as a failure at every radius.

    Args:
        spacing_mm: millimetres a unit of the coordinates, one number or one per axis; 1 for coordinates in millimetres.
            Another one may be given with every call, ``(D,)`` or ``(B, D)``.
        radii_mm: radii of the success rates.
    """

    def __init__(
        self, *, spacing_mm: float | Sequence[float] = 1.0, radii_mm: Sequence[float] = (2.0, 2.5, 3.0, 4.0)
    ) -> None:
        super().__init__()
        self.spacing_mm = self._spacing(spacing_mm)
        self.radii_mm = tuple(float(r) for r in radii_mm)
        if not all(0 <= r < math.inf for r in self.radii_mm):
            raise ValueError(f"radii_mm must be finite and not negative, got {radii_mm}")

    @staticmethod
    def _spacing(value: float | Sequence[float] | Tensor) -> Tensor:
        spacing = torch.as_tensor(value, dtype=torch.float64)
        if not bool(((spacing > 0) & spacing.isfinite()).all()):
            raise ValueError(f"spacing_mm must be positive and finite, got {spacing.tolist()}")
        return spacing

    def _compute_tensor(
        self,
        y_pred: Tensor,
        y: Tensor | None = None,
        *,
        spacing_mm: float | Sequence[float] | Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        if y is None or y_pred.shape != y.shape or y.ndim != 3:
            got = None if y is None else tuple(y.shape)
            raise ValueError(f"y_pred and y must both be (B, N, D) landmarks, got {tuple(y_pred.shape)} and {got}")
        spacing = self.spacing_mm if spacing_mm is None else self._spacing(spacing_mm)
        if spacing.ndim and spacing.shape not in (y.shape[2:], (y.shape[0], y.shape[2])):
            raise ValueError(f"spacing_mm must be a number, (D,) or (B, D), got {tuple(spacing.shape)}")
        spacing = spacing[:, None] if spacing.ndim == 2 else spacing
        found, true = (t.detach().as_subclass(torch.Tensor).cpu().double() for t in (y_pred, y))
        error = ((found - true) * spacing.cpu()).norm(dim=-1)  # (B, N)
        error = torch.where(found.isnan().any(-1), math.inf, error)
        return torch.where(true.isnan().any(-1), math.nan, error)

    def errors(self) -> Tensor:  # (cases, N) float64: NaN where not labelled, inf where not predicted
        """Of every case since the last reset, in millimetres."""
        data = self.get_buffer()
        if not isinstance(data, Tensor):
            raise ValueError("nothing was measured yet")
        return data

    def scores(self) -> dict[str, float]:
        """Mean, standard deviation, median of the errors, how many were measured and missing, and success rates.

        Mean and standard deviation are over the predicted landmarks, the median and the rates over all labelled ones.
        """
        error = self.errors().flatten()
        error = error[~error.isnan()]
        found = error[error.isfinite()]
        scores = {
            "mean_mm": found.mean().item(),
            "std_mm": found.std(correction=0).item(),
            "median_mm": error.quantile(0.5, interpolation="lower").item() if len(error) else math.nan,
            "landmarks": len(error),
            "missing": len(error) - len(found),
        }
        rates = {f"within_{r:g}_mm": (error <= r).double().mean().item() for r in self.radii_mm}
        return scores | rates

    def aggregate(self) -> Tensor:
        """Mean radial error in millimetres of everything seen since the last reset."""
        return torch.tensor(self.scores()["mean_mm"])
