"""The numbers of a run of the claims, and the arms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from medsynth_ext.claims.settings import StudySettings

__all__ = ["ARMS", "SPLITS", "NetworkArm", "Settings"]

# First phantom seed of each part; no two parts share a person.
SPLITS = {"train": 0, "validation": 100_000, "test": 200_000}


@dataclass(frozen=True)
class Settings(StudySettings):
    """One scale.

    Args:
        size: pixels per side.
        spacing_mm: pixel size.
        train_slices: slices to train with, all under the kernel ``soft``.
        train_views: projections of their scans.
        test_slices: slices that are tested under every kernel.
        test_views: projections of their scans.
        real_slices: slices of the real chest CT, where one is given.
        photons: mean count of an unattenuated ray.
        features: channels of the network.
        steps: training steps.
        batch_size: slices per step.
        learning_rate: Adam's rate.
        views: of the augmentation, as a share of the pixels.
        seeds: every arm is trained once per seed.
        speed_size: pixels of the slice that is timed.
        speed_views: its angles.
        repeats: timed calls; the median counts.
        thresholds: limits of the claims.
    """

    size: int
    spacing_mm: float
    train_slices: int
    train_views: int
    test_slices: int
    test_views: int
    real_slices: int
    photons: float
    features: tuple[int, ...]
    steps: int
    batch_size: int
    learning_rate: float
    views: float
    seeds: tuple[int, ...]
    speed_size: int
    speed_views: int
    repeats: int
    thresholds: Mapping[str, float]


@dataclass(frozen=True)
class NetworkArm:
    """A network of its own.

    Args:
        description: in words.
        kind: of ``SliceAugmentation``.
        kernel: arguments of ``RandFBPAug`` that differ from the method's.
    """

    description: str
    kind: str = "fbpaug"
    kernel: Mapping[str, Any] = field(default_factory=dict)


ARMS: dict[str, NetworkArm] = {
    "baseline": NetworkArm("turns and mirroring only", "none"),
    "fbpaug": NetworkArm("the method"),
    "gamma": NetworkArm("random gamma", "gamma"),
    "noise": NetworkArm("random noise", "noise"),
    "windowing": NetworkArm("random window", "windowing"),
    "smooth_only": NetworkArm("smoothing kernels only", kernel={"sharpen_prob": 0.0}),
    "sharpen_only": NetworkArm("sharpening kernels only", kernel={"sharpen_prob": 1.0}),
    "preserve_hu": NetworkArm("kernels that keep the HU of large regions", kernel={"preserve_hu": True}),
    "fft2": NetworkArm("the quick equivalent", kernel={"mode": "fft2"}),
    "streaks": NetworkArm("an eighth as many views as pixels", kernel={"views": 0.125}),
}
