"""The numbers of a run of the claims, and the arms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from medsynth_ext.claims.settings import StudySettings

__all__ = ["ARMS", "SPLITS", "Settings", "TranslationArm"]

# First phantom seed of each part; no two parts share a person, and CT is of other people than MR.
SPLITS = {"train": 0, "validation": 100_000, "test": 200_000}


@dataclass(frozen=True)
class Settings(StudySettings):
    """One scale.

    Args:
        size: pixels per side.
        spacing_mm: pixel size.
        slices: per patient.
        slice_mm: their distance.
        train_mr: patients with MR and surrogate to train with.
        train_ct: other patients with CT to train with.
        test_mr: patients whose MR is translated.
        test_ct: patients whose CT is translated.
        views: projections of a CT.
        photons: mean count of an unattenuated ray.
        features: channels of the generators.
        num_downs: their levels.
        blocks: of pix2pixHD's generator.
        downsamplings: of pix2pixHD's generator.
        discriminator_features: channels of the discriminators.
        layers: of the discriminators, about half of the image's side.
        cycle_layers: of CycleGAN's discriminators.
        steps: of a training.
        epochs: that they are divided into; the rate is constant for 3 of 5 and then falls to zero.
        batch_size: slices per step.
        learning_rate: Adam's rate.
        zoom: range of the random magnification.
        surrogate_weight: of the method's L1 from MR to CT.
        l1_weight: of the method's L1 from CT to MR, and of pix2pix's.
        matching_weight: of pix2pixHD's features.
        cycle_weight: of CycleGAN.
        pool_size: of CycleGAN.
        judge_features: channels of the segmenters and of the feature network.
        judge_steps: of their training.
        kid_subset: greatest size of KID's subsets.
        seeds: every arm is trained once per seed.
        thresholds: limits of the claims.
    """

    size: int
    spacing_mm: float
    slices: int
    slice_mm: float
    train_mr: int
    train_ct: int
    test_mr: int
    test_ct: int
    views: int
    photons: float
    features: int
    num_downs: int
    blocks: int
    downsamplings: int
    discriminator_features: int
    layers: int
    cycle_layers: int
    steps: int
    epochs: int
    batch_size: int
    learning_rate: float
    zoom: tuple[float, float]
    surrogate_weight: float
    l1_weight: float
    matching_weight: float
    cycle_weight: float
    pool_size: int
    judge_features: int
    judge_steps: int
    kid_subset: int
    seeds: tuple[int, ...]
    thresholds: Mapping[str, float]


@dataclass(frozen=True)
class TranslationArm:
    """A training.

    Args:
        description: in words.
        kind: ``surrogate``, ``two``, ``pix2pix``, ``pix2pixhd`` or ``cyclegan``.
        directions: what it translates.
        adversarial: whether there is a discriminator.
        l1: whether there is an L1 term.
        ct_share: probability of a step from CT, for ``two``.
    """

    description: str
    kind: str
    directions: tuple[str, ...]
    adversarial: bool = True
    l1: bool = True
    ct_share: float = 0.5


_TO_CT, _TO_MR = ("mr2ct",), ("ct2mr",)
ARMS: dict[str, TranslationArm] = {
    "mr2ct": TranslationArm("the method, GAN and L1 to the surrogate", "surrogate", _TO_CT),
    "mr2ct_pix2pix": TranslationArm("pix2pix from MR to surrogate", "pix2pix", _TO_CT),
    "mr2ct_l1": TranslationArm("L1 to the surrogate alone", "surrogate", _TO_CT, adversarial=False),
    "mr2ct_gan": TranslationArm("GAN alone", "surrogate", _TO_CT, l1=False),
    "ct2mr": TranslationArm("the method, two discriminators and L1", "two", _TO_MR),
    "ct2mr_pix2pix": TranslationArm("pix2pix from surrogate to MR", "pix2pix", _TO_MR),
    "ct2mr_gan": TranslationArm("unconditional GAN alone", "two", _TO_MR, l1=False, ct_share=1.0),
    "ct2mr_cgan": TranslationArm("two discriminators without L1", "two", _TO_MR, l1=False),
    "cyclegan": TranslationArm("CycleGAN between MR and CT", "cyclegan", ("mr2ct", "ct2mr")),
    "mr2ct_pix2pixhd": TranslationArm("pix2pixHD from MR to surrogate", "pix2pixhd", _TO_CT),
    "ct2mr_pix2pixhd": TranslationArm("pix2pixHD from surrogate to MR", "pix2pixhd", _TO_MR),
}
