"""Sub-labels: tissues that a label map does not name, found by their intensity in an image of the same person.

A map that names only the organ's parts says nothing about what surrounds them. Every label is split by a Gaussian
mixture of the image's intensities, and each part of the mixture gets a value, and later a contrast, of its own
(Billot et al., MedIA 2023, section 5.4).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["Mixture", "SubLabel", "fit_mixture", "split_labels", "sub_label_table"]

_BINS = 1024  # of the histogram that stands for the intensities, a quarter of a grey value each


@dataclass(frozen=True)
class Mixture:
    """A Gaussian mixture of intensities; components by rising mean."""

    weights: np.ndarray  # (N,)
    means: np.ndarray  # (N,)
    variances: np.ndarray  # (N,)

    def log_joint(self, values: np.ndarray) -> np.ndarray:  # (M,) -> (N, M)
        """Logarithm of weight times density of every component."""
        v, m = values[None], self.means[:, None]
        with np.errstate(divide="ignore"):
            prior = np.log(self.weights)[:, None]
        return prior - 0.5 * np.log(2 * np.pi * self.variances)[:, None] - (v - m) ** 2 / (2 * self.variances[:, None])


@dataclass(frozen=True)
class SubLabel:
    """What a sub-label became in one map."""

    value: int
    parent: int
    mean: float  # of the image, 0 to 255
    deviation: float
    voxels: int


def fit_mixture(
    values: np.ndarray,  # (M,)
    counts: np.ndarray,  # (M,)
    components: int,
    *,
    rng: np.random.Generator,
    iterations: int = 100,
    variance_floor: float = 1.0,
) -> Mixture:
    """Fit a mixture to weighted values by expectation maximisation from a k-means++ start.

    Fewer components come back when there are fewer distinct values.

    Args:
        values: distinct values.
        counts: how often each occurs.
        components: Gaussians.
        rng: draws the start.
        iterations: of expectation and maximisation; stops earlier once nothing changes.
        variance_floor: least variance, in squared units of the values.

    Raises:
        ValueError: without values, or for numbers out of range.
    """
    if components < 1 or iterations < 1 or variance_floor <= 0:
        raise ValueError(
            "components and iterations must be at least 1 and variance_floor positive, got "
            f"{components}, {iterations} and {variance_floor}"
        )
    seen = counts > 0
    values, counts = values[seen].astype(float), counts[seen].astype(float)
    if not values.size:
        raise ValueError("a mixture needs at least one value, got none")
    means = _k_means_start(values, counts, min(components, values.size), rng)
    nearest = np.abs(values[None] - means[:, None]).argmin(0)
    share = (nearest[None] == np.arange(len(means))[:, None]).astype(float)
    mixture = _maximise(values, counts, share, variance_floor)
    for _ in range(iterations):
        joint = mixture.log_joint(values)
        joint -= joint.max(0)
        share = np.exp(joint)
        share /= share.sum(0)
        last, mixture = mixture, _maximise(values, counts, share, variance_floor)
        if np.allclose(last.means, mixture.means, rtol=0, atol=1e-4):
            break
    order = mixture.means.argsort()
    return Mixture(mixture.weights[order], mixture.means[order], mixture.variances[order])


def _k_means_start(values: np.ndarray, counts: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Centres that are drawn far from each other: with probability in proportion to the squared distance."""
    centres = [rng.choice(values, p=counts / counts.sum())]
    while len(centres) < k:
        far = np.min([(values - c) ** 2 for c in centres], axis=0) * counts
        centres.append(rng.choice(values, p=far / far.sum()))
    return np.array(centres)


def _maximise(values: np.ndarray, counts: np.ndarray, share: np.ndarray, floor: float) -> Mixture:
    weight = share * counts
    total = np.maximum(weight.sum(1), 1e-12)
    means = (weight * values).sum(1) / total
    variances = (weight * (values[None] - means[:, None]) ** 2).sum(1) / total
    return Mixture(total / counts.sum(), means, np.maximum(variances, floor))


def split_labels(
    image: Tensor,  # (D, H, W)
    labels: Tensor,  # (D, H, W) integer
    *,
    background: int,
    foreground: int = 2,
    stride: int = 1000,
    seed: int = 0,
    iterations: int = 100,
    variance_floor: float = 1.0,
    smooth: bool = True,
    least_voxels: int = 50,
    percentiles: tuple[float, float] = (0.5, 99.5),
) -> tuple[Tensor, list[SubLabel]]:  # (D, H, W) int32
    """Split every label by intensity; sub-label k of the label v has the value ``v + k * stride``.

    The image is scaled to 0..255 between two percentiles. Per label: a mixture is fitted, every voxel goes to the
    component of the highest posterior, then to the one that most voxels of its label have in the 3 x 3 x 3 around it.
    A component that holds too few voxels is taken out, and its voxels go to the neighbour in intensity. k rises with
    the intensity.

    Args:
        image: any contrast, on the grid of the labels.
        labels: values from 0, below ``stride``.
        background: sub-labels of the value 0.
        foreground: sub-labels of every other value.
        stride: distance of the values of two sub-labels.
        seed: of the start of the mixtures.
        iterations: see :func:`fit_mixture`.
        variance_floor: see :func:`fit_mixture`, on the scale of 0 to 255.
        smooth: whether to take the majority around every voxel.
        least_voxels: a sub-label with fewer is dropped.
        percentiles: of the image that become 0 and 255.

    Returns:
        The map, and one record per sub-label that it holds.

    Raises:
        ValueError: for shapes that differ, an image that is constant or not finite, or values out of range.
    """
    if image.ndim != 3 or image.shape != labels.shape:
        raise ValueError(
            f"image and labels must be (D, H, W) of one shape, got {tuple(image.shape)} and {tuple(labels.shape)}"
        )
    if min(background, foreground) < 1 or least_voxels < 1:
        raise ValueError(
            "background, foreground and least_voxels must be at least 1, got "
            f"{background}, {foreground} and {least_voxels}"
        )
    values = labels.long()
    if int(values.min()) < 0 or int(values.max()) >= stride:
        raise ValueError(f"labels must be from 0 to {stride - 1}, got {int(values.min())} to {int(values.max())}")
    bins = _to_bins(image, percentiles)
    result = torch.zeros(labels.shape, dtype=torch.int32)
    records = []
    centres = np.linspace(0, 255, _BINS)
    for parent in torch.unique(values).tolist():
        inside = values == parent
        counts = torch.bincount(bins[inside], minlength=_BINS).numpy()
        rng = np.random.default_rng([seed, parent])
        wanted = min(foreground if parent else background, max(1, int(counts.sum()) // least_voxels))
        mixture = fit_mixture(centres, counts, wanted, rng=rng, iterations=iterations, variance_floor=variance_floor)
        kept = np.arange(len(mixture.means))
        while True:
            component = _assign(mixture, kept, centres, bins, inside, smooth=smooth)
            sizes = torch.bincount(component[inside], minlength=len(kept)).numpy()
            if len(kept) == 1 or sizes.min() >= least_voxels:
                break
            kept = np.delete(kept, sizes.argmin())  # its voxels now go to what is next to it in intensity
        result[inside] = (parent + stride * component[inside]).int()
        for k in range(len(kept)):
            chosen = bins[inside & (component == k)].double() * (255 / (_BINS - 1))
            spread = float(chosen.std(correction=0))
            records.append(SubLabel(parent + stride * k, parent, float(chosen.mean()), spread, int(chosen.numel())))
    return result, records


def _to_bins(image: Tensor, percentiles: tuple[float, float]) -> Tensor:
    x = image.double()
    if not bool(x.isfinite().all()):
        raise ValueError("the image must be finite, got NaN or infinite voxels")
    low, high = np.percentile(x.numpy(), percentiles)
    if not math.isfinite(high - low) or high <= low:
        raise ValueError(f"the image must have contrast, but its percentiles {percentiles} are both {low:g}")
    return ((x - low) / (high - low)).clamp(0, 1).mul(_BINS - 1).round().long()


def _assign(
    mixture: Mixture, kept: np.ndarray, centres: np.ndarray, bins: Tensor, inside: Tensor, *, smooth: bool
) -> Tensor:
    """The component of every voxel among the ``kept`` ones, as its place in them."""
    part = Mixture(mixture.weights[kept], mixture.means[kept], mixture.variances[kept])
    component = torch.from_numpy(part.log_joint(centres).argmax(0))[bins]
    if not smooth or len(kept) == 1:
        return component
    best = torch.full(bins.shape, -1.0)
    winner = component.clone()
    for k in range(len(kept)):
        member = (inside & (component == k)).float()
        votes = 27 * torch.nn.functional.avg_pool3d(member[None], 3, 1, 1)[0] + 0.5 * member  # a tie changes nothing
        better = votes > best
        best[better] = votes[better]
        winner[better] = k
    return winner


def sub_label_table(
    names: Mapping[int, str], *, background: int = 10, foreground: int = 2, stride: int = 1000
) -> dict[str, Any]:
    """The label table of maps that :func:`split_labels` made, as ``configs/labels.json`` holds it.

    Every sub-label has a Gaussian of its own and is predicted as its label. Every label is one connected piece.

    Args:
        names: value and name of every label but the background.
        background: sub-labels of the background, the most that occur in any map.
        foreground: sub-labels of every other label.
        stride: see :func:`split_labels`.

    Raises:
        ValueError: for values that are not from 1 to ``stride - 1``.

    >>> sub_label_table({5: "liver"}, background=3)["generation_labels"]
    [0, 1000, 2000, 5, 1005]
    """
    wrong = [v for v in names if not 0 < v < stride]
    if wrong:
        raise ValueError(f"names must have values from 1 to {stride - 1}, got {wrong[0]}")
    parents: Sequence[tuple[int, int]] = [(0, background), *((v, foreground) for v in sorted(names))]
    labels = [parent + stride * k for parent, count in parents for k in range(count)]
    titles = {0: "background", **{int(v): str(name) for v, name in names.items()}}
    return {
        "generation_labels": labels,
        "n_neutral": len(labels),
        "generation_classes": list(range(len(labels))),
        "segmentation_labels": [v % stride for v in labels],
        "names": {str(v): titles[v % stride] + (f" {v // stride + 1}" if v >= stride else "") for v in labels},
        "topological_classes": {str(v): k for k, v in enumerate(sorted(names), start=1)},
    }
