"""The numbers of a run of the claims, and the arms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medsynth_ext.claims.settings import StudySettings

__all__ = ["ARMS", "PHANTOM", "REAL", "REAL_ARMS", "SPLITS", "Settings", "TrainingArm"]

# Where images come from.
PHANTOM, REAL = "phantom", "chest"

# First phantom seed of each part; no two parts share a hand.
SPLITS = {"labelled": 0, "unlabelled": 100_000, "choice": 200_000, "validation": 300_000, "test": 400_000}


@dataclass(frozen=True)
class Settings(StudySettings):
    """One scale.

    Args:
        anatomy: of the phantoms.
        size: pixels per side, of phantom and network.
        network: options of ``DAGNet``.
        validation: images by which the best weights of every training are chosen.
        unlabelled: images without landmarks.
        test: images for the figures.
        real_unlabelled: projections of a real chest CT without landmarks, where one is given.
        real_test: projections of it for the figures.
        batch_size: images per step.
        supervised_steps: length of stage 1.
        supervised_rate: learning rate of stage 1, falls to 0 as a cosine.
        semi_steps: length of stage 2.
        semi_rate: its learning rate.
        ratio: unlabelled batches per labelled one.
        decay: of the teacher.
        noise: of the student.
        margin: of the global loss.
        feature_weight: of the Jensen-Shannon term.
        memory: of the temporal ensemble.
        check_every: steps between two looks at the validation images.
        max_error: share of the width above which stage 1 has not converged, and a point has failed.
        heatmap_channels: of the heatmap network.
        heatmap_steps: its training.
        heatmap_rate: its learning rate.
        heatmap_sigma: of its Gaussians, in pixels.
        seeds: every arm is trained once per seed, with labelled images of its own.
        thresholds: limits of the claims.
    """

    anatomy: str
    size: int
    network: Mapping[str, Any]
    validation: int
    unlabelled: int
    test: int
    real_unlabelled: int
    real_test: int
    batch_size: int
    supervised_steps: int
    supervised_rate: float
    semi_steps: int
    semi_rate: float
    ratio: int
    decay: float
    noise: float
    margin: float
    feature_weight: float
    memory: float
    check_every: int
    max_error: float
    heatmap_channels: int
    heatmap_steps: int
    heatmap_rate: float
    heatmap_sigma: float
    seeds: tuple[int, ...]
    thresholds: Mapping[str, float]


@dataclass(frozen=True)
class TrainingArm:
    """One way to train.

    Args:
        description: in words.
        labelled: number of labelled images.
        kind: ``dag`` (stage 1 only), ``teacher``, ``pseudo``, ``pi``, ``temporal`` or ``heatmap``.
        features: with the Jensen-Shannon term.
        source: ``phantom``, or ``chest`` for projections of a real chest CT.
    """

    description: str
    labelled: int
    kind: str
    features: bool = False
    source: str = PHANTOM


ARMS: dict[str, TrainingArm] = {
    **{f"dag_{n}": TrainingArm(f"stage 1 with {n} labelled", n, "dag") for n in (1, 5, 10, 50)},
    **{f"teacher_{n}": TrainingArm(f"mean teacher, {n} labelled", n, "teacher") for n in (5, 10, 50)},
    **{f"teacher_js_{n}": TrainingArm(f"and features, {n} labelled", n, "teacher", True) for n in (5, 10, 50)},
    "heatmap_10": TrainingArm("SpatialConfiguration-Net, 10 labelled", 10, "heatmap"),
    "pseudo_10": TrainingArm("pseudo-labels of stage 1, 10 labelled", 10, "pseudo"),
    "pi_10": TrainingArm("Pi-model, 10 labelled", 10, "pi"),
    "temporal_10": TrainingArm("temporal ensemble, 10 labelled", 10, "temporal"),
}

# With a real chest CT at hand.
REAL_ARMS: dict[str, TrainingArm] = {
    "chest_dag_10": TrainingArm("stage 1 on the real chest, 10 labelled", 10, "dag", source=REAL),
    "chest_teacher_js_10": TrainingArm("mean teacher with features on the real chest", 10, "teacher", True, REAL),
}
