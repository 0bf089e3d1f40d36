"""Losses between shapes, in units of the image's width."""

from __future__ import annotations

import torch
from torch import Tensor

from medsynth_ext.engines.processes import gather_batch
from medsynth_ext.losses.jensen_shannon import jensen_shannon
from medsynth_ext.methods.dag.network import DAGOutput

__all__ = ["DAGLoss", "shape_distance"]


def shape_distance(
    points: Tensor,  # (B, N, 2) normalised
    target: Tensor,  # (B, N, 2) normalised, NaN where not visible
) -> Tensor:  # scalar
    """Mean of ``|dy| + |dx|`` over the visible points, in widths of the image; 0 when none is visible.

    The points are those of the batch of all processes, which may see different numbers of them.
    """
    points, target = gather_batch(points), gather_batch(target)
    visible = ~target.isnan().any(-1)
    distance = (points.float() - torch.where(visible[..., None], target, 0.0).float()).abs().sum(-1) / 2
    return (distance * visible).sum() / visible.sum().clamp(min=1)


class DAGLoss:
    """Supervised and unsupervised terms.

    The transform of the whole shape is only asked to come within ``margin`` of the target on average over the batch;
    nothing is detached, so the local term reaches it as well.

    Args:
        margin: where the global term ends, in widths of the image.
        local_weight: weight of the distance of the final points.
        feature_weight: weight of the Jensen-Shannon divergence between the feature maps of student and teacher.
        feature_reduction: of :func:`medsynth_ext.losses.jensen_shannon`.
    """

    def __init__(
        self,
        *,
        margin: float = 0.02,
        local_weight: float = 1.0,
        feature_weight: float = 0.1,
        feature_reduction: str = "position",
    ) -> None:
        self.margin = margin
        self.local_weight = local_weight
        self.feature_weight = feature_weight
        self.feature_reduction = feature_reduction

    def supervised(self, output: DAGOutput, target: Tensor) -> dict[str, Tensor]:
        """``global`` and ``local`` against normalised points (B, N, 2), NaN where not visible."""
        return {
            "global": (shape_distance(output.moved, target) - self.margin).clamp(min=0),
            "local": self.local_weight * shape_distance(output.points, target),
        }

    def consistency(self, student: DAGOutput, teacher: DAGOutput) -> dict[str, Tensor]:
        """The same against the teacher's points, and ``features`` unless its weight is 0."""
        terms = self.supervised(student, teacher.points)
        terms = {f"unlabelled_{name}": term for name, term in terms.items()}
        if self.feature_weight > 0:
            divergence = jensen_shannon(student.features, teacher.features, reduction=self.feature_reduction)
            terms["unlabelled_features"] = self.feature_weight * divergence
        return terms
