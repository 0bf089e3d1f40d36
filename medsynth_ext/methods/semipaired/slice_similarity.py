"""Structural similarity of axial slices."""

from __future__ import annotations

from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric, compute_ssim_and_cs
from monai.utils import convert_data_type
from torch import Tensor

__all__ = ["SliceSSIM"]


class SliceSSIM(CumulativeIterationMetric):
    """Mean structural similarity (Wang et al., IEEE TIP 2004) over the axial slices of a volume.

    Args:
        data_range: greatest minus smallest value that the images may have.
    """

    def __init__(self, *, data_range: float) -> None:
        super().__init__()
        self.data_range = data_range

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **_: Any) -> Tensor:  # (B, 1)
        """Both are (B, 1, H, W, D)."""
        if y is None or y.shape != y_pred.shape:
            raise ValueError(
                f"wanted two volumes of one shape, got {tuple(y_pred.shape)} and {y if y is None else tuple(y.shape)}"
            )
        found, true = (convert_data_type(part, Tensor)[0].float() for part in (y_pred, y))
        return torch.stack([self._volume(a, b) for a, b in zip(found, true, strict=True)])[:, None]

    def _volume(self, found: Tensor, true: Tensor) -> Tensor:
        ssim, _ = compute_ssim_and_cs(
            found.movedim(-1, 0),
            true.movedim(-1, 0),
            spatial_dims=2,
            kernel_size=(11, 11),
            kernel_sigma=(1.5, 1.5),
            data_range=self.data_range,
        )
        return ssim.mean()

    def aggregate(self) -> Tensor:
        """Mean over everything seen since the last reset."""
        data = self.get_buffer()
        if not isinstance(data, Tensor):
            raise ValueError("nothing was measured yet")
        return data.mean()
