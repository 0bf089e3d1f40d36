"""The numbers of one scale of the claims, and the arms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from medsynth_ext.claims.settings import StudySettings

__all__ = ["FIRST_PERSON", "JointArm", "Settings", "joint_arms"]

# First person of each part; no two parts share one.
FIRST_PERSON = {"train": 0, "validation": 100_000, "test": 200_000}


@dataclass(frozen=True)
class Settings(StudySettings):
    """One scale.

    Args:
        size: voxels per side.
        fov_mm: side of the field of view.
        views: projections of the CT.
        ct_window_hu: what becomes -1 and 1 in CT.
        mr_percentiles: likewise in MR.
        train: hearts per domain to learn from.
        test: hearts per domain to test with.
        labelled: how many of the first have a label in the domain whose labels are scarce.
        features: of the generators.
        discriminator_features: of the discriminators.
        discriminator_layers: likewise.
        segmenter_features: of the segmenters.
        segmenters: kinds that are compared; the first is used wherever one is enough.
        half_sources: train with half of the translated volumes as well (claim 7).
        segmenter_epochs: of the first stage.
        generator_epochs: of the second stage.
        joint_epochs: of the third stage.
        decay_epochs: how many of these have falling rates.
        batch_size: volumes per domain and step.
        learning_rate: Adam's, of generators and discriminators.
        segmenter_learning_rate: of segmenters.
        cycle_weight: of the cycle.
        shape_weight: of the shape term.
        synthetic_weight: of generated volumes in the segmenters' loss.
        dice_weight: of Dice beside cross-entropy.
        pool_size: of the image pools.
        rotation_deg: of the augmentation.
        scale: likewise, relative.
        translation: likewise, voxels.
        intensity: likewise, relative.
        amp: train in bfloat16.
        seeds: every arm is trained once per seed.
        thresholds: limits of the claims.
    """

    size: int
    fov_mm: float
    views: int
    ct_window_hu: tuple[float, float]
    mr_percentiles: tuple[float, float]
    train: int
    test: int
    labelled: int
    features: tuple[int, int, int]
    discriminator_features: int
    discriminator_layers: int
    segmenter_features: tuple[int, ...]
    segmenters: tuple[str, ...]
    half_sources: bool
    segmenter_epochs: int
    generator_epochs: int
    joint_epochs: int
    decay_epochs: int
    batch_size: int
    learning_rate: float
    segmenter_learning_rate: float
    cycle_weight: float
    shape_weight: float
    synthetic_weight: float
    dice_weight: float
    pool_size: int
    rotation_deg: float
    scale: float
    translation: float
    intensity: float
    amp: bool
    seeds: tuple[int, ...]
    thresholds: Mapping[str, float]


@dataclass(frozen=True)
class JointArm:
    """One training that is compared.

    Args:
        description: in words.
        way: ``without`` (a CycleGAN), ``real`` (segmenters on real volumes), ``ada`` (segmenters tuned on volumes that
            the CycleGAN generated), ``joint`` (the method), ``transposed`` (a CycleGAN with transposed convolutions).
        segmenter: its kind.
        scarce: domain whose labels are scarce, ``both`` where each is in turn, ``""`` for none.
        sources: share of the other domain's volumes that are translated.
    """

    description: str
    way: str
    segmenter: str
    scarce: str = ""
    sources: float = 1.0


def joint_arms(segmenters: tuple[str, ...], *, half_sources: bool = True) -> dict[str, JointArm]:
    """All arms by name."""
    first = segmenters[0]
    arms = {
        "without": JointArm("translation without shape consistency", "without", first),
        "with": JointArm("the method with all labels of both domains", "joint", first),
        "real_all": JointArm("segmenters on all labelled real volumes", "real", first),
        "transposed": JointArm("translation with transposed convolutions, before the joint stage", "transposed", first),
    }
    for kind in segmenters:
        arms[f"real_{kind}"] = JointArm(f"{kind} on the scarce real volumes", "real", kind, "both")
        arms[f"ada_{kind}"] = JointArm(f"{kind} tuned off line on real and generated volumes", "ada", kind, "both")
        for domain in ("ct", "mr"):
            what = f"the method with {kind}, labels of {domain} scarce"
            arms[f"joint_{kind}_{domain}"] = JointArm(what, "joint", kind, domain)
    for domain in ("ct", "mr") if half_sources else ():
        what = f"the method, labels of {domain} scarce, half of the other domain's volumes"
        arms[f"half_{domain}"] = JointArm(what, "joint", first, domain, 0.5)
    return arms
