"""The numbers of a run of the claims, and the arms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medsynth_ext.claims.settings import StudySettings
from medsynth_ext.phantoms.endoscopy_recordings import INTRAOP_SEEDS

__all__ = ["ARMS", "FIRST_SEEDS", "RULES", "NetworkArm", "Settings"]

# First phantom seed of each part; no two parts share a valve.
FIRST_SEEDS = {
    "sim": 0,
    "intraop": INTRAOP_SEEDS,
    "tuning": INTRAOP_SEEDS + 100_000,
    "validation": INTRAOP_SEEDS + 200_000,
    "test": INTRAOP_SEEDS + 300_000,
    "known_sites": INTRAOP_SEEDS + 400_000,  # other valves under the endoscopes of "intraop"
}
# Paper's first rule; its second one with bounds from the training's counts, and with its own; a tuned threshold.
RULES = ("v1", "v2", "v2_paper", "score")


@dataclass(frozen=True)
class Settings(StudySettings):
    """One scale.

    Args:
        frame_size: rows and columns.
        sim_recordings: of the simulator.
        intraop_recordings: of surgery, to train with.
        tuning_recordings: of surgery, to choose the threshold of rule ``score`` with.
        test_recordings: of surgery, held out, under endoscopes of their own; and as many under those of the training.
        frames: of every recording.
        gap: between the domains, see ``endoscopy_recording``.
        width: of the network.
        stem_channels: of the network.
        modules: of the network.
        blocks: of the network.
        steps: training steps.
        batch_size: frames per step.
        amp: whether networks run in bfloat16.
        learning_rate: of Adam at the beginning, a hundredth of it at the end.
        discriminator_rate: of its Adam.
        loss_scale: factor of the mean squared error.
        lambda_adv: weight of the adversarial term.
        lambda_kl: weight of the distillation.
        sigma: of the targets in pixels.
        window: half width of the targets in pixels.
        sigmas: the smallest and the largest other one.
        small_window: the other one.
        radius: of a match in pixels.
        close: distance within which two points are a close pair, in pixels.
        threshold: on the score, for the paper's rules.
        paper_bounds: fewest and most points of the paper's second rule.
        percentiles: of the training's counts, for the other bounds.
        rival: numbers of the other method's detector.
        seeds: every arm is trained once per seed.
        speed_batch: maps that are decoded at once.
        speed_size: their size.
        repeats: timed calls; the median counts.
        thresholds: limits of the claims.
    """

    frame_size: tuple[int, int]
    sim_recordings: int
    intraop_recordings: int
    tuning_recordings: int
    test_recordings: int
    frames: int
    gap: float
    width: int
    stem_channels: int
    modules: tuple[int, ...]
    blocks: tuple[int, ...]
    steps: int
    batch_size: int
    amp: bool
    learning_rate: float
    discriminator_rate: float
    loss_scale: float
    lambda_adv: float
    lambda_kl: float
    sigma: float
    window: int
    sigmas: tuple[float, float]
    small_window: int
    radius: float
    close: float
    threshold: float
    paper_bounds: tuple[int, int]
    percentiles: tuple[float, float]
    rival: Mapping[str, Any]
    seeds: tuple[int, ...]
    speed_batch: int
    speed_size: tuple[int, int]
    repeats: int
    thresholds: Mapping[str, float]


@dataclass(frozen=True)
class NetworkArm:
    """A network of its own.

    Args:
        description: in words.
        strategy: ``joint``, ``adversarial``, ``collaborative`` or ``rival``.
        lambda_sim: weight of the simulator's frames; none are drawn for 0.
        target: what differs in the targets: ``small_sigma``, ``large_sigma``, ``small_window`` or nothing.
    """

    description: str
    strategy: str = "joint"
    lambda_sim: float = 1.0
    target: str = ""


ARMS: dict[str, NetworkArm] = {
    "surgery_only": NetworkArm("no frame of the simulator", lambda_sim=0.0),
    "half_weight": NetworkArm("the simulator's frames count half", lambda_sim=0.5),
    "joint": NetworkArm("the method that was submitted"),
    "adversarial": NetworkArm("a discriminator tells the domains apart by the heatmaps", "adversarial"),
    "collaborative": NetworkArm("a network for each domain, and distillation", "collaborative"),
    "small_sigma": NetworkArm("narrow targets", target="small_sigma"),
    "large_sigma": NetworkArm("wide targets", target="large_sigma"),
    "small_window": NetworkArm("targets cut off early", target="small_window"),
    "suture": NetworkArm("regions of a heatmap, adaptor_suture_heatmap_detection", "rival"),
}
