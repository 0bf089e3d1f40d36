"""The numbers of a run of the claims, and the arms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from medsynth_ext.claims.settings import StudySettings

__all__ = ["ARMS", "POPULATIONS", "SegmenterArm", "Settings"]

# Population seed of each part; no two parts share a patient, and shape models are built from others again.
POPULATIONS = {"train": 0, "validation": 1, "test": 2}


@dataclass(frozen=True)
class Settings(StudySettings):
    """One scale.

    Args:
        sites: hospitals, each simulated on its own.
        labelled: numbers of labelled training volumes; every one is a run of its own.
        train: training volumes of a site.
        validation: volumes to choose weights by.
        test: volumes that are tested.
        size: voxels per side.
        coarse: voxels per side of the material map.
        latent: length of a latent.
        views: projections of the simulator on the coarse grid.
        full_views: projections on the full grid.
        material_features: channels of the material network.
        features: channels of the generator's last block.
        hidden: channels inside its normalisation.
        discriminator_features: channels of the discriminator's first layer.
        vgg_width: share of VGG's channels, with random weights.
        steps: iterations of the stages ``parameters``, ``gan``, ``semi_supervised`` and, inside the last, ``pull``.
        rates: learning rates of every phase; ``shared`` is that of the shared networks.
        slices: slices per step of the generator.
        unet: features of the U-Net.
        unet_batch: volumes per update of the U-Net.
        generated: volumes to pre-train the U-Net with.
        unet_steps: updates of ``pretrain`` and ``finetune``, and of ``scratch`` without generated volumes.
        unet_rates: the same for the learning rates.
        check_every: updates between two validations of the U-Net.
        gradient_size: voxels per side where shape gradients are timed.
        seeds: everything is trained once per seed.
        thresholds: limits of the claims.
    """

    sites: tuple[str, ...]
    labelled: tuple[int, ...]
    train: int
    validation: int
    test: int
    size: int
    coarse: int
    latent: int
    views: int
    full_views: int
    material_features: tuple[int, ...]
    features: int
    hidden: int
    discriminator_features: int
    vgg_width: float
    steps: Mapping[str, int]
    rates: Mapping[str, Mapping[str, float]]
    slices: int
    unet: tuple[int, ...]
    unet_batch: int
    generated: int
    unet_steps: Mapping[str, int]
    unet_rates: Mapping[str, float]
    check_every: int
    gradient_size: int
    seeds: tuple[int, ...]
    thresholds: Mapping[str, float]


@dataclass(frozen=True)
class SegmenterArm:
    """A U-Net of its own.

    Args:
        description: in words.
        simulator: whose volumes it sees first: ``fix_mat``, ``pre``, ``full`` or ``unfrozen``; none when empty.
        real: whether it is then trained on the labelled real volumes.
        blend: of the generated volumes.
        random_shapes: shapes drawn from their box instead of learned.
    """

    description: str
    simulator: str = ""
    real: bool = True
    blend: str = "none"
    random_shapes: bool = False


ARMS: dict[str, SegmenterArm] = {
    "lower": SegmenterArm("labelled real volumes only"),
    "fix_mat": SegmenterArm("generated with fixed materials, then real", "fix_mat"),
    "pre": SegmenterArm("generated after stages A and B, then real", "pre"),
    "full": SegmenterArm("generated after stages A, B and C, then real", "full"),
    "unfrozen": SegmenterArm("as full, with a discriminator that learns in stage C", "unfrozen"),
    "random_shape": SegmenterArm(
        "generated only: fixed materials, random shapes", "fix_mat", real=False, random_shapes=True
    ),
    "alpha": SegmenterArm("generated only: fixed materials, heart pasted in", "fix_mat", real=False, blend="alpha"),
    "poisson": SegmenterArm(
        "generated only: fixed materials, heart blended in", "fix_mat", real=False, blend="poisson"
    ),
    "learned_shape": SegmenterArm("generated only: fixed materials, learned shapes", "fix_mat", real=False),
}
