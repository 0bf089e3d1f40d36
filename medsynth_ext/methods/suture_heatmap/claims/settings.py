"""The numbers of a run of the claims, and the arms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from medsynth_ext.claims.settings import StudySettings

__all__ = ["ARMS", "FIRST_SEEDS", "TRANSLATED", "NetworkArm", "Settings"]

TRANSLATED = "sim_translated_train"

# First recording of each part; no two parts share a valve.
FIRST_SEEDS = {
    "sim_train": 0,
    "intraop_train": 1_000,
    "sim_validation": 100_000,
    "intraop_validation": 101_000,
    "sim_test": 200_000,
    "intraop_test": 201_000,
}


@dataclass(frozen=True)
class Settings(StudySettings):
    """One scale.

    Args:
        size: rows and columns of the frames.
        frames: frames of a training recording.
        test_frames: frames of a test recording.
        sim_recordings: simulator recordings to train with.
        intraop_recordings: intraoperative ones.
        test_recordings: held-out recordings of each domain.
        gap: how much surgery differs from the simulator.
        sigma: of the Gaussians, pixels.
        window: half width of their squares.
        radius: largest distance of a match.
        close: labels with another one nearer than this make claim 5, pixels.
        features: channels of the method's network.
        baseline_features: of the baseline's.
        baseline_dropout: share of dropped values in it.
        steps: training steps.
        batch_size: frames per step.
        learning_rate: Adam's rate at the start; it falls to a thousandth along a cosine.
        baseline_batch_size: of the baseline, which takes more steps on as many frames.
        baseline_learning_rate: likewise.
        single_area: of our decoder, in place of the paper's mean area.
        min_peak: likewise, beside the paper's 0.
        min_area: likewise.
        seeds: every arm is trained once per seed.
        speed_size: rows and columns of the maps that are timed.
        speed_batch: how many at once.
        repeats: timed calls; the median counts.
        thresholds: limits of the claims.
    """

    size: tuple[int, int]
    frames: int
    test_frames: int
    sim_recordings: int
    intraop_recordings: int
    test_recordings: int
    gap: float
    sigma: float
    window: float
    radius: float
    close: float
    features: tuple[int, ...]
    baseline_features: tuple[int, ...]
    baseline_dropout: float
    steps: int
    batch_size: int
    learning_rate: float
    baseline_batch_size: int
    baseline_learning_rate: float
    single_area: float
    min_peak: float
    min_area: int
    seeds: tuple[int, ...]
    speed_size: tuple[int, int]
    speed_batch: int
    repeats: int
    thresholds: Mapping[str, float]


@dataclass(frozen=True)
class NetworkArm:
    """A network of its own.

    Args:
        description: in words.
        train: parts that it is trained with, each as often per batch.
        domain: of the recordings that it is tested on.
        loss: ``dice``, ``squared_dice``, ``mse`` or ``baseline``.
    """

    description: str
    train: tuple[str, ...] = ("intraop_train",)
    domain: str = "intraop"
    loss: str = "dice"


ARMS: dict[str, NetworkArm] = {
    "baseline": NetworkArm("the challenge's baseline, trained on surgery", loss="baseline"),
    "method": NetworkArm("Dice loss and regions, trained on surgery"),
    "squared": NetworkArm("the same with squared denominators in the Dice loss", loss="squared_dice"),
    "mse": NetworkArm("the same with a mean square", loss="mse"),
    "joint": NetworkArm("surgery and simulator frames as they are, one to one", ("intraop_train", "sim_train")),
    "translated": NetworkArm("surgery and translated simulator frames, one to one", ("intraop_train", TRANSLATED)),
    "baseline_sim": NetworkArm("the baseline on simulator frames", ("sim_train",), "sim", "baseline"),
    "method_sim": NetworkArm("the method on simulator frames", ("sim_train",), "sim"),
}
