"""The numbers of a run of the claims, as the config gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from medsynth_ext.claims.settings import read_settings

__all__ = ["EvaluationSettings", "Settings", "SpeedSettings", "TrainingSettings"]

# First phantom seed of each part; no two parts share a person.
SPLITS = {"validation": 100_000, "test": 200_000}


@dataclass(frozen=True)
class TrainingSettings:
    """The same for every arm.

    Args:
        shape: voxels of the label maps.
        spacing_mm: voxel size of maps and images.
        crop_size: voxels of a training image.
        features: channels per level of the network.
        norm: ``batch`` or ``instance``.
        steps: training steps.
        batch_size: images per step.
        learning_rate: Adam's rate at its highest.
        warm_up_steps: steps in which the rate rises from 0; afterwards it falls to 0 as a cosine.
        cross_entropy_weight: weight beside the Dice loss.
        max_grad_norm: gradients are cut to this norm.
        amp: whether the network runs in bfloat16.
        seeds: every arm is trained once per seed.
        young_maps: label maps of young people, noise-free, as drawn by hand.
        old_maps: label maps of old people, with the noise of an automatic method, for the arm that has both.
        boundary_noise: fraction of border voxels of these that are wrong.
        generator: arguments of the generator's ranges that differ from its defaults.
        merged: predicted value to the value it is merged into, for networks too small to tell all structures apart.
    """

    shape: tuple[int, int, int]
    spacing_mm: float
    crop_size: tuple[int, int, int]
    features: tuple[int, ...]
    norm: str
    steps: int
    batch_size: int
    learning_rate: float
    warm_up_steps: int
    cross_entropy_weight: float
    max_grad_norm: float
    amp: bool
    seeds: tuple[int, ...]
    young_maps: int
    old_maps: int
    boundary_noise: float
    generator: Mapping[str, Any] = field(default_factory=dict)
    merged: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluationSettings:
    """What is tested.

    Args:
        subjects: young people whose scans are made in every contrast and resolution.
        contrasts: names of the renderer's contrasts; the first is that of the baseline.
        coarse_mm: slice spacings beside the native one, along one axis.
        every_direction: whether each person is scanned along all three axes; else person k along axis k mod 3.
        shifted_bias: exponent of the coil's bias in the scans with shifted T1 contrast.
        shifted_means: relative shift of tissue means in them.
        lesion_subjects: people scanned with and without lesions.
        lesions: lesions of each.
        old_candidates: old people of whom those with the largest ventricles are scanned.
        largest_fraction: how many of them.
        group_subjects: controls, and as many patients with smaller hippocampi.
        group_spacing_mm: voxel size of their scans.
        batch_size: images per call of the network.
    """

    subjects: int
    contrasts: tuple[str, ...]
    coarse_mm: tuple[float, ...]
    every_direction: bool
    shifted_bias: float
    shifted_means: float
    lesion_subjects: int
    lesions: int
    old_candidates: int
    largest_fraction: float
    group_subjects: int
    group_spacing_mm: tuple[float, float, float]
    batch_size: int


@dataclass(frozen=True)
class SpeedSettings:
    """The pair whose generation is timed.

    Args:
        map_size: voxels of the label map, 1 mm.
        crop_size: voxels of the pair.
        repeats: timed pairs of the generator and of the composition; the median counts.
        reference_repeats: the same for the plain twins of the operators, which are slow.
        threads: numbers of threads with which the same pair is made.
        check_size: voxels of the pair that is made again with other threads, batches and devices.
    """

    map_size: int
    crop_size: int
    repeats: int
    reference_repeats: int
    threads: tuple[int, ...]
    check_size: int


@dataclass(frozen=True)
class Settings:
    """All numbers of one scale."""

    training: TrainingSettings
    evaluation: EvaluationSettings
    speed: SpeedSettings
    thresholds: Mapping[str, float]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Settings:
        """Read the part of the config that belongs to one scale.

        Raises:
            ValueError: for missing or unknown entries.
        """
        parts = {"training": TrainingSettings, "evaluation": EvaluationSettings, "speed": SpeedSettings}
        built: dict[str, Any] = {
            name: read_settings(kind, config.get(name, {}), what=f"the settings {name}", optional=("generator",))
            for name, kind in parts.items()
        }
        return cls(**built, thresholds={name: float(value) for name, value in config["thresholds"].items()})


def plain(part: Any) -> dict[str, Any]:
    """A part of the settings as plain values."""
    return asdict(part)
