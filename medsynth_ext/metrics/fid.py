"""Distances between two sets of images in the space of a given feature extractor: Frechet (FID) and kernel (KID)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric, FIDMetric
from torch import Tensor

__all__ = ["DistributionDistance", "feature_vectors", "fid", "kid"]

Extractor = Callable[[Tensor], Any]


@torch.no_grad()
def feature_vectors(extractor: Extractor, images: Tensor | Iterable[Tensor]) -> Tensor:  # (N, F) float32, on the CPU
    """One vector per image: the extractor's output, of a list the last entry, averaged over space.

    Args:
        extractor: maps images (B, C, *S) to (B, F), (B, F, *s) or a list of such, for example ``VGGFeatures`` or
            ``FeatureNetwork``; a module is used as it is, so put it into evaluation mode.
        images: (B, C, *S), or batches of it where all images do not fit.

    Raises:
        ValueError: without an image, or for an extractor that does not give vectors.
    """
    parts = []
    for batch in [images] if isinstance(images, Tensor) else images:
        found = extractor(batch)
        if isinstance(found, Sequence):
            found = found[-1]
        if found.ndim < 2 or len(found) != len(batch):
            raise ValueError(f"the extractor must give one vector or map per image, got {tuple(found.shape)}")
        parts.append(found.float().flatten(2).mean(-1).cpu() if found.ndim > 2 else found.float().cpu())
    if not parts or not sum(map(len, parts)):
        raise ValueError("there must be at least one image to extract features of")
    return torch.cat(parts)


def _check(pred: Tensor, real: Tensor) -> None:
    if pred.ndim != 2 or real.ndim != 2 or pred.shape[1] != real.shape[1]:
        raise ValueError(f"features must be (N, F) and (M, F), got {tuple(pred.shape)} and {tuple(real.shape)}")
    if min(len(pred), len(real)) < 2:
        raise ValueError(f"each set must hold at least 2 images, got {len(pred)} and {len(real)}")


def fid(pred: Tensor, real: Tensor) -> float:  # (N, F) and (M, F)
    """Frechet distance of the Gaussians fitted to two sets of features (Heusel et al., NeurIPS 2017), as MONAI has it.

    It is biased upwards for small sets: compare only figures from sets of the same sizes. With fewer images than
    features the covariances are singular and the figure is of little use; take :func:`kid`.

    Raises:
        ValueError: for sets that are not (N, F) and (M, F) with at least two rows each.
    """
    _check(pred, real)
    return max(0.0, float(FIDMetric()(pred.detach().cpu(), real.detach().cpu())))


def kid(
    pred: Tensor,  # (N, F)
    real: Tensor,  # (M, F)
    *,
    subsets: int = 100,
    subset_size: int = 100,
    seed: int = 0,
) -> tuple[float, float]:
    """Kernel distance of two sets of features: mean and standard deviation over random subsets.

    The unbiased estimate of the squared maximum mean discrepancy with the kernel ``(x . y / F + 1)^3`` (Binkowski et
    al., ICLR 2018); it may be slightly negative for two sets of one distribution. Torchmetrics and MONAI have it only
    with a fetched Inception network or without this kernel.

    Args:
        pred: features of generated images.
        real: features of real images.
        subsets: how many pairs of subsets.
        subset_size: images in each, without repetition; no more than the smaller set has.
        seed: of the subsets.

    Raises:
        ValueError: as :func:`fid`, for less than one subset or one of less than two images.
    """
    _check(pred, real)
    size = min(subset_size, len(pred), len(real))
    if subsets < 1 or size < 2:
        raise ValueError(f"subsets must be at least 1 and subset_size at least 2, got {subsets} and {subset_size}")
    generator = torch.Generator().manual_seed(seed)
    values = []
    for _ in range(subsets):
        x, y = (
            part.detach().cpu().double()[torch.randperm(len(part), generator=generator)[:size]] for part in (pred, real)
        )
        values.append(_squared_discrepancy(x, y))
    found = torch.tensor(values, dtype=torch.float64)
    return float(found.mean()), float(found.std(correction=0))


def _squared_discrepancy(x: Tensor, y: Tensor) -> float:
    count, features = x.shape

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / features + 1) ** 3

    within = sum(float(k.sum() - k.trace()) for k in (kernel(x, x), kernel(y, y))) / (count * (count - 1))
    return within - 2 * float(kernel(x, y).mean())


class DistributionDistance(CumulativeIterationMetric):
    """FID or KID of the images an evaluator makes against the real ones, for ``IgniteMetricHandler``.

    Args:
        features: the extractor, see :func:`feature_vectors`.
        kind: ``fid``, or ``kid`` for the mean over subsets.
        options: of :func:`kid`.

    Raises:
        ValueError: for another kind.
    """

    def __init__(self, features: Extractor, *, kind: str = "fid", **options: Any) -> None:
        super().__init__()
        if kind not in ("fid", "kid"):
            raise ValueError(f"kind must be fid or kid, got {kind!r}")
        if kind == "fid" and options:
            raise ValueError(f"fid has no options, got {sorted(options)}")
        self.features = features
        self.kind = kind
        self.options = options

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **_: Any) -> Tensor:  # (B, 2, F)
        if y is None:
            raise ValueError("the distance of two distributions needs real images too, got none")
        return torch.stack([feature_vectors(self.features, y_pred), feature_vectors(self.features, y)], 1)

    def aggregate(self) -> float:
        """The distance of all images seen since the last reset."""
        both = self.get_buffer()
        pred, real = both[:, 0], both[:, 1]
        return fid(pred, real) if self.kind == "fid" else kid(pred, real, **self.options)[0]
