"""The numbers of a run of the claims, and what its segmenters learn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from medsynth_ext.claims.settings import StudySettings

__all__ = ["AUGMENTED", "FIRST_SEEDS", "ROBUST", "Settings"]

# First frame of each part; no two parts share an anatomy. Validation has its own frames where the test's would be.
FIRST_SEEDS = {
    "pool": 0,
    "judge": 20_000,
    "phantom": 40_000,
    "target": 50_000,
    "labelled": 60_000,
    "validation": 500_000,
    "test": 1_000_000,
}

# Arms of the augmentation claims: what is there beside the target's own frames, and whether these are augmented.
AUGMENTED: dict[str, tuple[str, str]] = {
    "vt": ("variational", "the phantom's frames in the target's style, drawn, and the target's frames, one to one"),
    "dt": ("adain", "the same from the deterministic transfer"),
    "ph": ("phantom", "the phantom's frames as they are, and the target's frames, one to one"),
    "target": ("", "the target's frames alone"),
    "target_aug": ("augmented", "the target's frames alone with gamma, blur and mirroring"),
}

# Arms of the claim on machines that nobody observed: what the labelled frames are re-rendered as.
ROBUST: dict[str, str] = {
    "original": "labelled frames of the observed machines",
    "reference": "the same, every other one in the style of another frame",
    "posterior_mix": "the same, every other one in a drawn style at the temperature",
}


@dataclass(frozen=True)
class Settings(StudySettings):
    """One scale.

    Args:
        size: rows and columns of the frames.
        pool: frames that the transfers learn from.
        judge_frames: frames that the judges learn from.
        phantom_frames: labelled frames of the phantom.
        targets: numbers of labelled target frames, the largest first.
        labelled_frames: labelled frames of all observed machines for the claim on unobserved ones.
        test_frames: of each test.
        phantom_machine: number of the phantom's machine, from 0.
        target_machine: of the target's.
        features: widths of the transfer.
        feature_width: of the feature network whose weights the study is given.
        content_weights: of the transfer's loss.
        style_weights: likewise.
        normalise_content: likewise.
        structure_weight: likewise.
        structure_px: likewise.
        kl_weight: likewise.
        sampling: factor on the codes' deviations.
        batch_size: of all trainings.
        learning_rate: of the transfers.
        content_steps: of the content encoder's own stage.
        style_steps: of the style encoder's.
        transfer_steps: of the transfer and of the deterministic one.
        ema_decay: of the average of both transfers' weights.
        judge_steps: of machine classifier and segmenter of all machines.
        unet: widths of all segmenters.
        segmentation_steps: of each segmenter.
        segmentation_rate: of the judges and segmenters.
        renderings: re-rendered frames for each of the phantom.
        pairs: content and style pairs that the judges see.
        samples: styles drawn for one frame in the claim on diversity.
        temperature: of the Gaussian for unobserved machines.
        seeds: every arm is run once per seed.
        thresholds: limits of the claims.
    """

    size: int
    pool: int
    judge_frames: int
    phantom_frames: int
    targets: tuple[int, ...]
    labelled_frames: int
    test_frames: int
    phantom_machine: int
    target_machine: int
    features: tuple[int, ...]
    feature_width: float
    content_weights: tuple[float, ...]
    style_weights: tuple[float, ...]
    normalise_content: bool
    structure_weight: float
    structure_px: int
    kl_weight: float
    sampling: float
    batch_size: int
    learning_rate: float
    content_steps: int
    style_steps: int
    transfer_steps: int
    ema_decay: float
    judge_steps: int
    unet: tuple[int, ...]
    segmentation_steps: int
    segmentation_rate: float
    renderings: int
    pairs: int
    samples: int
    temperature: float
    seeds: tuple[int, ...]
    thresholds: Mapping[str, float]
