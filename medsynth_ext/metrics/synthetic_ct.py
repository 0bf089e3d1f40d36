"""How far a synthetic CT is from the true one: by tissue and region, at edges, and along rays."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.metrics import CumulativeIterationMetric, compute_dice, do_metric_reduction
from monai.utils import MetricReduction
from scipy import ndimage
from torch import Tensor

from medsynth_ext import ops

__all__ = [
    "REGIONS",
    "THRESHOLDS_HU",
    "TISSUES",
    "GradientRatio",
    "HUError",
    "LineIntegralError",
    "TissueDice",
    "body_mask",
    "edge_band",
    "region_mask",
    "tissue_classes",
]

TISSUES = ("air", "soft", "bone")
THRESHOLDS_HU = (-300.0, 200.0)  # between air, soft tissue and bone
REGIONS = ("whole", "body", "edges", "flat", *TISSUES)


def tissue_classes(
    hu: Tensor,  # (...) HU
    thresholds_hu: Sequence[float] = THRESHOLDS_HU,
) -> Tensor:  # (...) int64
    """0 air, 1 soft tissue, 2 bone.

    >>> tissue_classes(torch.tensor([-1000.0, 40.0, 900.0])).tolist()
    [0, 1, 2]
    """
    return torch.bucketize(hu.contiguous(), torch.tensor(thresholds_hu, dtype=hu.dtype, device=hu.device))


def body_mask(
    hu: Tensor,  # (D, H, W) HU, the last axis from feet to head
    threshold_hu: float = THRESHOLDS_HU[0],
) -> Tensor:  # (D, H, W) bool
    """The largest connected piece that is denser than air, with what it encloses in every axial slice."""
    dense = (hu > threshold_hu).cpu().numpy()
    labels, count = ndimage.label(dense)
    if count > 1:
        dense = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    filled = np.stack([ndimage.binary_fill_holes(dense[..., k]) for k in range(dense.shape[-1])], -1)
    return torch.from_numpy(filled).to(hu.device)


def edge_band(
    hu: Tensor,  # (D, H, W) HU
    *,
    sigma: float | Sequence[float],
    limit_hu: float = 400.0,
) -> Tensor:  # (D, H, W) bool
    """Voxels that differ by more than ``limit_hu`` from the image blurred with ``sigma`` (voxels): edges and detail."""
    width = (float(sigma),) * 3 if isinstance(sigma, (int, float)) else tuple(float(s) for s in sigma)
    return (hu - ops.gaussian_blur(hu[None, None].float(), width)[0, 0]).abs() > limit_hu


def region_mask(
    truth_hu: Tensor,  # (D, H, W)
    region: str,
    *,
    sigma: float | Sequence[float] = 5.0,
    limit_hu: float = 400.0,
) -> Tensor:  # (D, H, W) bool
    """The voxels of a region of the true CT.

    Args:
        truth_hu: the true CT.
        region: ``whole``, ``body``, ``edges`` (see :func:`edge_band`), ``flat`` (everything but them), or a tissue:
            ``air`` (within the body), ``soft``, ``bone``.
        sigma: of the edge band, in voxels.
        limit_hu: of the edge band.

    Raises:
        ValueError: for another region.
    """
    if region not in REGIONS:
        raise ValueError(f"region must be one of {', '.join(REGIONS)}, got {region!r}")
    if region == "whole":
        return torch.ones_like(truth_hu, dtype=torch.bool)
    if region == "body":
        return body_mask(truth_hu)
    if region in ("edges", "flat"):
        return edge_band(truth_hu, sigma=sigma, limit_hu=limit_hu) == (region == "edges")
    mask = tissue_classes(truth_hu) == TISSUES.index(region)
    return mask & body_mask(truth_hu) if region == "air" else mask


class _PairMetric(CumulativeIterationMetric):
    """One number per pair of volumes; NaN where there is nothing to measure, left out of the mean."""

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **_: Any) -> Tensor:
        if y is None or y_pred.shape != y.shape or y_pred.shape[1] != 1 or y_pred.ndim != 5:
            got = None if y is None else tuple(y.shape)
            raise ValueError(f"y_pred and y must both be (B, 1, D, H, W) in HU, got {tuple(y_pred.shape)} and {got}")
        spacing = affine_to_spacing(y.affine, 3).tolist() if isinstance(y, MetaTensor) else [1.0] * 3
        found, true = (t.as_tensor() if isinstance(t, MetaTensor) else t for t in (y_pred, y))
        rows = [self.measure(p[0].detach(), t[0].detach(), spacing) for p, t in zip(found, true, strict=True)]
        return torch.tensor(rows, dtype=torch.float32)[:, None]  # (B, 1)

    @abstractmethod
    def measure(self, found_hu: Tensor, true_hu: Tensor, spacing_mm: Sequence[float]) -> float:
        """The number of one pair of (D, H, W) volumes."""

    def aggregate(self, reduction: MetricReduction | str | None = None) -> Tensor:
        """Mean over everything seen since the last reset."""
        data = self.get_buffer()
        if not isinstance(data, Tensor):
            raise ValueError("nothing was measured yet")
        return do_metric_reduction(data, reduction or MetricReduction.MEAN)[0]


class HUError(_PairMetric):
    """Mean absolute error in HU within a region of the true CT, see :func:`region_mask`; NaN where it is empty.

    Args:
        region: one of ``REGIONS``.
        sigma_mm: width of the low-pass that tells edges from flat parts.
        limit_hu: how far an edge voxel is from the low-pass.
        unit_hu: the result is in multiples of this.

    Raises:
        ValueError: for another region.
    """

    def __init__(
        self, region: str = "whole", *, sigma_mm: float = 15.0, limit_hu: float = 400.0, unit_hu: float = 1.0
    ) -> None:
        super().__init__()
        if region not in REGIONS:
            raise ValueError(f"region must be one of {', '.join(REGIONS)}, got {region!r}")
        self.region = region
        self.sigma_mm = sigma_mm
        self.limit_hu = limit_hu
        self.unit_hu = unit_hu

    def measure(self, found_hu: Tensor, true_hu: Tensor, spacing_mm: Sequence[float]) -> float:
        sigma = [self.sigma_mm / h for h in spacing_mm]
        mask = region_mask(true_hu, self.region, sigma=sigma, limit_hu=self.limit_hu)
        error = (found_hu - true_hu)[mask].abs().float()
        return float(error.mean()) / self.unit_hu if error.numel() else math.nan


class TissueDice(_PairMetric):
    """Dice of one of the three classes that thresholds make of both CTs; NaN where neither has it.

    Args:
        tissue: ``air``, ``soft`` or ``bone``.
        thresholds_hu: between the three.

    Raises:
        ValueError: for another tissue.
    """

    def __init__(self, tissue: str, *, thresholds_hu: Sequence[float] = THRESHOLDS_HU) -> None:
        super().__init__()
        if tissue not in TISSUES:
            raise ValueError(f"tissue must be one of {', '.join(TISSUES)}, got {tissue!r}")
        self.tissue = tissue
        self.thresholds_hu = tuple(thresholds_hu)

    def measure(self, found_hu: Tensor, true_hu: Tensor, spacing_mm: Sequence[float]) -> float:
        index = TISSUES.index(self.tissue)
        found, true = (tissue_classes(hu, self.thresholds_hu) == index for hu in (found_hu, true_hu))
        return float(compute_dice(found[None, None], true[None, None], ignore_empty=not bool(found.any())))


class GradientRatio(_PairMetric):
    """Mean gradient magnitude in the edge band of the true CT, of the found CT over the true one.

    1 is as sharp as the truth, less is blurred; NaN without edges.

    Args:
        sigma_mm: width of the low-pass that tells where edges are.
        limit_hu: how far an edge voxel is from the low-pass.
    """

    def __init__(self, *, sigma_mm: float = 15.0, limit_hu: float = 400.0) -> None:
        super().__init__()
        self.sigma_mm = sigma_mm
        self.limit_hu = limit_hu

    def measure(self, found_hu: Tensor, true_hu: Tensor, spacing_mm: Sequence[float]) -> float:
        band = edge_band(true_hu, sigma=[self.sigma_mm / h for h in spacing_mm], limit_hu=self.limit_hu)
        if not bool(band.any()):
            return math.nan
        slopes = [
            torch.stack(torch.gradient(hu.float(), spacing=list(spacing_mm))).norm(dim=0)[band].mean()
            for hu in (found_hu, true_hu)
        ]
        return float(slopes[0] / slopes[1])


class LineIntegralError(_PairMetric):
    """Error of the attenuation along rays: what a dose or an attenuation correction feels of the HU errors.

    Both CTs become attenuation coefficients, ``mu = mu_water * (1 + HU / 1000)`` and not negative, and every axial
    slice is projected in parallel beams over half a turn. The result is the sum of absolute differences over the sum of
    the true line integrals, in percent.

    Args:
        views: angles over half a turn.
        mu_water_per_mm: of water; it cancels but for rounding.
        project: in place of ``ops.ct_forward``, for tests.
    """

    def __init__(
        self, *, views: int = 60, mu_water_per_mm: float = 0.0193, project: Callable[..., Tensor] = ops.ct_forward
    ) -> None:
        super().__init__()
        if views < 1:
            raise ValueError(f"views must be at least 1, got {views}")
        self.views = views
        self.mu_water_per_mm = mu_water_per_mm
        self.project = project

    def measure(self, found_hu: Tensor, true_hu: Tensor, spacing_mm: Sequence[float]) -> float:
        rows, columns, _ = true_hu.shape
        pixel = min(spacing_mm[:2])
        detector = math.ceil(math.hypot(rows * spacing_mm[0], columns * spacing_mm[1]) / pixel)
        angles = [math.pi * k / self.views for k in range(self.views)]
        geometry = ops.CTGeometry.parallel2d(
            angles, detector, pixel, (rows, columns), spacing_mm=(spacing_mm[1], spacing_mm[0])
        )
        sinograms = []
        for hu in (found_hu, true_hu):
            mu = self.mu_water_per_mm * (1 + hu.float() / 1000).clamp(min=0)
            sinograms.append(self.project(mu.permute(2, 0, 1).contiguous(), geometry))  # (W, views, detector)
        total = sinograms[1].sum()
        return float(100 * (sinograms[0] - sinograms[1]).abs().sum() / total) if total > 0 else math.nan
