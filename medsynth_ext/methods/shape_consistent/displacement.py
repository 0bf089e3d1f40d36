"""How far a translation moved the organs."""

from __future__ import annotations

from typing import Any

import torch
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.metrics import CumulativeIterationMetric, do_metric_reduction
from monai.utils import MetricReduction
from torch import Tensor

__all__ = ["CentroidDisplacement", "centroid_distances"]


def centroid_distances(
    found: Tensor,  # (1, *S) class indices
    true: Tensor,  # (1, *S)
    *,
    classes: int,
    spacing_mm: Tensor,  # number of axes
) -> Tensor:  # (classes - 1,)
    """Millimetres between the centroids of every foreground class; NaN where one map lacks the class.

    >>> a, b = torch.tensor([[1, 0, 0, 0]]), torch.tensor([[0, 0, 1, 1]])
    >>> centroid_distances(a, b, classes=2, spacing_mm=torch.tensor([2.0])).tolist()
    [5.0]
    """
    spacing = torch.as_tensor(spacing_mm, dtype=torch.float64)
    rows = []
    for value in range(1, classes):
        places = [torch.as_tensor(m[0] == value).nonzero().double().cpu() * spacing for m in (found, true)]
        means = [p.mean(0) if len(p) else torch.full_like(spacing, torch.nan) for p in places]
        rows.append((means[0] - means[1]).norm())
    return torch.stack(rows).float()


class CentroidDisplacement(CumulativeIterationMetric):
    """Mean distance between the centroids of organs in two label maps, per foreground class, in millimetres.

    The voxel size is that of ``y`` when it is a ``MetaTensor``, else 1 mm; a class that is missing in either map counts
    as not measured.

    Args:
        classes: number of classes, background included.
        reduction: how MONAI reduces the ``(N, classes - 1)`` values.
    """

    def __init__(self, classes: int, *, reduction: MetricReduction | str = MetricReduction.MEAN) -> None:
        super().__init__()
        self.classes = classes
        self.reduction = reduction

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **_: Any) -> Tensor:
        if y is None or y_pred.shape != y.shape or y_pred.shape[1] != 1:
            got = None if y is None else tuple(y.shape)
            raise ValueError(f"y_pred and y must both be (B, 1, *S) class indices, got {tuple(y_pred.shape)} and {got}")
        axes = y.ndim - 2
        spacing = affine_to_spacing(y.affine, axes) if isinstance(y, MetaTensor) else torch.ones(axes)
        pairs = zip(y_pred, y, strict=True)
        rows = [centroid_distances(p, t, classes=self.classes, spacing_mm=torch.as_tensor(spacing)) for p, t in pairs]
        return torch.stack(rows)

    def aggregate(self, reduction: MetricReduction | str | None = None) -> Tensor:
        """The reduced value of everything seen since the last reset."""
        data = self.get_buffer()
        if not isinstance(data, Tensor):
            raise ValueError("nothing was measured yet")
        return do_metric_reduction(data, reduction or self.reduction)[0]
