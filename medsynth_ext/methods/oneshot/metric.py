"""The validation of the slice network: cross-entropy over the three stacks of slices."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from monai.metrics import CumulativeIterationMetric
from monai.transforms import Transform
from torch import Tensor

from medsynth_ext import ops
from medsynth_ext.methods.oneshot.views import JOINT_THRESHOLD

__all__ = ["JointMask", "ViewCrossEntropy"]


class ViewCrossEntropy(CumulativeIterationMetric):
    """Mean binary cross-entropy of the logits (B, 3, *S) of three views against one mask (B, 1, *S)."""

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **_: Any) -> Tensor:
        if y is None or y_pred.shape[2:] != y.shape[2:]:
            raise ValueError(f"y must be a mask on the grid of y_pred {tuple(y_pred.shape)}, got {y}")
        target = y.to(y_pred).expand_as(y_pred)
        loss = F.binary_cross_entropy_with_logits(y_pred.float(), target.float(), reduction="none")
        return loss.flatten(1).mean(1, keepdim=True)

    def aggregate(self) -> Tensor:
        """Mean over everything seen since the last reset."""
        data = self.get_buffer()
        if not isinstance(data, Tensor):
            raise ValueError("nothing was measured yet")
        return data.mean()


class JointMask(Transform):
    """Adds ``joint`` (1, *S): where the geometric mean of the three views' probabilities exceeds one half."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        views = torch.as_tensor(data["pred"]).as_subclass(torch.Tensor).float().sigmoid()
        z, y, x = views.unbind(0)
        p = ops.ortho_slice_product(z.permute(2, 0, 1), y.permute(1, 2, 0), x)
        return {**data, "joint": (p[None] > JOINT_THRESHOLD).float()}
