"""What is measured of segmenters and of translations."""

from __future__ import annotations

from typing import Any

import torch
from monai.metrics import compute_dice
from monai.networks.utils import one_hot
from torch import Tensor, nn

from medsynth_ext.methods.shape_consistent.claims.hearts import Hearts
from medsynth_ext.methods.shape_consistent.claims.networks import CLASSES
from medsynth_ext.methods.shape_consistent.displacement import centroid_distances
from medsynth_ext.methods.shape_consistent.run_network import predicted

__all__ = ["dice_scores", "high_frequency_share", "translation_scores"]


def _dice(found: Tensor, true: Tensor) -> float:  # (1, *S) class indices
    one, other = (one_hot(labels[None].long(), CLASSES) for labels in (found, true))
    return float(compute_dice(one, other, include_background=False).nanmean())


def dice_scores(network: nn.Module, hearts: Hearts) -> list[float]:
    """Mean Dice over the organs, of every heart."""
    pairs = zip(hearts["images"], hearts["labels"], strict=True)
    return [_dice(predicted(image, network, labels=True).cpu(), label) for image, label in pairs]


def translation_scores(generator: nn.Module, reference: nn.Module, hearts: Hearts, voxel_mm: float) -> dict[str, Any]:
    """Of translated test hearts: overlap and distance of the reference's organs to the source's, error to the truth.

    ``s_score`` and ``displacement_mm`` are means over hearts and organs (organs that the reference does not find have
    no distance; ``lost_organs`` counts them), ``mae`` is in units of the window from -1 to 1. ``floor_...`` are the
    same of the hidden truth itself: what the reference's own mistakes make of a perfect translation.
    """
    figures: dict[str, list[float]] = {}
    spacing = torch.full((3,), voxel_mm)
    lost = 0
    for image, truth, label in zip(hearts["images"], hearts["hidden"], hearts["labels"], strict=True):
        fake = predicted(image, generator).cpu()
        figures.setdefault("mae", []).append(float((fake - truth).abs().mean()))
        for name, volume in (("", fake), ("floor_", truth)):
            found = predicted(volume, reference, labels=True).cpu()
            distance = centroid_distances(found, label, classes=CLASSES, spacing_mm=spacing)
            figures.setdefault(f"{name}s_score", []).append(_dice(found, label))
            figures.setdefault(f"{name}displacement_mm", []).append(float(distance.nanmean()))
            lost += int(distance.isnan().sum()) if not name else 0
    means = {name: float(torch.tensor(values).nanmean()) for name, values in figures.items()}
    return {**means, "lost_organs": lost}


def high_frequency_share(volumes: Tensor) -> float:  # (N, 1, *S)
    """Share of the energy, without the mean, at frequencies in the top octave along any axis."""
    shares = []
    for volume in volumes[:, 0].float():
        power = torch.fft.fftn(volume - volume.mean()).abs() ** 2
        axes = torch.meshgrid(*(torch.fft.fftfreq(n).abs() for n in volume.shape), indexing="ij")
        high = torch.stack(axes).amax(0) > 0.25
        shares.append(float(power[high].sum() / power.sum()))
    return sum(shares) / len(shares)
