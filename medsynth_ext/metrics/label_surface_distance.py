"""Percentile of the surface distance between two label maps, in millimetres."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.metrics import CumulativeIterationMetric, compute_hausdorff_distance, do_metric_reduction
from monai.utils import MetricReduction
from torch import Tensor

__all__ = ["LabelSurfaceDistance"]


class LabelSurfaceDistance(CumulativeIterationMetric):
    """The larger of the two directed percentiles of the surface distance, per foreground class, in millimetres.

    Works on maps of class indices, class by class inside the box around the class, so that many classes of a whole head
    do not have to stand in memory as one-hot channels. The voxel size is that of ``y`` when it is a ``MetaTensor``,
    else 1 mm. A class that is missing in either map counts as not measured (NaN).

    Args:
        num_classes: number of classes K, background included.
        percentile: 95 gives the usual SD95.
        reduction: how MONAI reduces the ``(N, K - 1)`` values.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        percentile: float = 95.0,
        reduction: MetricReduction | str = MetricReduction.MEAN,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.percentile = percentile
        self.reduction = reduction

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **_: Any) -> Tensor:
        if y is None or y_pred.shape != y.shape or y_pred.shape[1] != 1:
            got = None if y is None else tuple(y.shape)
            raise ValueError(f"y_pred and y must both be (B, 1, *S) class indices, got {tuple(y_pred.shape)} and {got}")
        axes = y.ndim - 2
        spacing = affine_to_spacing(y.affine, axes).tolist() if isinstance(y, MetaTensor) else [1.0] * axes
        found, true = (t.detach().cpu().numpy()[:, 0] for t in (y_pred, y))
        classes = range(1, self.num_classes)
        rows = [[self._distance(p == k, t == k, spacing) for k in classes] for p, t in zip(found, true, strict=True)]
        return torch.tensor(rows, dtype=torch.float32)  # (B, K - 1)

    def _distance(self, found: np.ndarray, true: np.ndarray, spacing: list[float]) -> float:
        if not (found.any() and true.any()):
            return float("nan")
        box = tuple(slice(int(i.min()), int(i.max()) + 1) for i in np.nonzero(found | true))
        # A rim of one voxel, so that the surface is closed at the border of the box.
        closed_found, closed_true = (torch.from_numpy(np.pad(mask[box], 1))[None, None] for mask in (found, true))
        distance = compute_hausdorff_distance(
            closed_found, closed_true, include_background=True, percentile=self.percentile, spacing=spacing
        )
        return float(distance)

    def aggregate(self, reduction: MetricReduction | str | None = None) -> Tensor:
        """The reduced value of everything seen since the last reset."""
        data = self.get_buffer()
        if not isinstance(data, Tensor):
            raise ValueError("nothing was measured yet")
        return do_metric_reduction(data, reduction or self.reduction)[0]
