"""The numbers of a run of the heart's claim, and its arms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medsynth_ext.claims.settings import StudySettings

__all__ = ["ARMS", "SPLITS", "TEST_SETS", "HeartSettings", "TestSet"]

# First person of each part; no two parts share one.
SPLITS = {"train": 0, "validation": 100_000, "test": 200_000}

ARMS = {
    "sub_labels": "background and parts split by the intensities of an MR image of the same person",
    "one_background": "the same maps without sub-labels: one Gaussian for the background, one for each part",
}


@dataclass(frozen=True)
class TestSet:
    """Scans of one modality.

    Args:
        modality: of :func:`medsynth_ext.methods.synthseg.heart_cases.heart_image`.
        only: the one label that is known, where not all are.
    """

    modality: str
    only: int | None = None


TEST_SETS: Mapping[str, TestSet] = {
    "MR": TestSet("bssfp"),
    "CT": TestSet("ct_A"),
    "left atrium": TestSet("angiography", only=4),
}


@dataclass(frozen=True)
class HeartSettings(StudySettings):
    """One scale.

    Args:
        size: voxels per side of maps and scans.
        spacing_mm: their voxel size.
        crop_size: voxels of a training image.
        train_people: label maps before they are split.
        test_people: people of every test set.
        backgrounds: numbers of sub-labels of the background, a version of each map per number.
        foreground: sub-labels of every part.
        least_voxels: smaller sub-labels are dropped.
        features: channels per level of the network.
        norm: ``batch`` or ``instance``.
        steps: training steps.
        batch_size: images per step.
        learning_rate: Adam's rate at its highest.
        warm_up_steps: steps in which the rate rises from 0; afterwards it falls to 0 as a cosine.
        cross_entropy_weight: weight beside the Dice loss.
        max_grad_norm: gradients are cut to this norm.
        amp: whether the network runs in bfloat16.
        ct_window_hu: CT is clipped to it.
        generator: arguments of the generator's ranges that differ from its defaults.
        seeds: every arm is trained once per seed.
        thresholds: limits of the claim, in points of Dice.
    """

    size: int
    spacing_mm: float
    crop_size: tuple[int, int, int]
    train_people: int
    test_people: int
    backgrounds: tuple[int, ...]
    foreground: int
    least_voxels: int
    features: tuple[int, ...]
    norm: str
    steps: int
    batch_size: int
    learning_rate: float
    warm_up_steps: int
    cross_entropy_weight: float
    max_grad_norm: float
    amp: bool
    ct_window_hu: tuple[float, float]
    generator: Mapping[str, Any]
    seeds: tuple[int, ...]
    thresholds: Mapping[str, float]
