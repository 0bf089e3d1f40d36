"""The numbers of a run of the claims, and the arms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from medsynth_ext.claims.settings import StudySettings

__all__ = ["ARMS", "SPLITS", "NetworkArm", "Settings"]

# First phantom seed of each part; no two parts share a person.
SPLITS = {"train": 0, "validation": 100_000, "test": 200_000}


@dataclass(frozen=True)
class Settings(StudySettings):
    """One scale.

    Args:
        size: voxels per side of a head.
        spacing_mm: voxel size.
        train_heads: heads to train with.
        test_heads: heads to test with.
        low_pass_mm: standard deviation of the low-pass, in targets and for the edge band.
        patch: voxels per side of patches and windows.
        angle_deg: largest turn.
        overlap: of the windows.
        unet: channels of the U-Net and of the judge.
        fc_net: channels of the FC-Net.
        res_net: channels of the Res-Net.
        res_repeat: blocks in a group of the Res-Net.
        k: kernel of the refinement.
        steps: training steps of every arm.
        batch_size: patches per step.
        learning_rate: Adam's first rate.
        cosine: whether it falls to zero along a cosine.
        amp: train in bfloat16 where it can be.
        adversarial_weight: of the judge's verdict.
        warm_up_share: of the steps, without the judge.
        views: projections of the line integrals.
        seeds: every arm is trained once per seed.
        thresholds: limits of the claims.
    """

    size: int
    spacing_mm: float
    train_heads: int
    test_heads: int
    low_pass_mm: float
    patch: int
    angle_deg: float
    overlap: float
    unet: tuple[int, ...]
    fc_net: tuple[int, ...]
    res_net: tuple[int, ...]
    res_repeat: int
    k: int
    steps: int
    batch_size: int
    learning_rate: float
    cosine: bool
    amp: bool
    adversarial_weight: float
    warm_up_share: float
    views: int
    seeds: tuple[int, ...]
    thresholds: Mapping[str, float]


@dataclass(frozen=True)
class NetworkArm:
    """One network and how it is trained.

    Args:
        description: in words.
        backbone: ``unet``, ``fc_net`` or ``res_net``.
        head: ``bands``, ``plain`` or ``boundary``.
        k: kernel of the refinement; the settings' own when 0.
        stacked: layers of 3 x 3 x 3 instead of the factorised refinement; 0 for none.
        high_weight: of the high band's loss.
        judged: image that the judge sees; empty for no judge.
    """

    description: str
    backbone: str = "unet"
    head: str = "bands"
    k: int = 0
    stacked: int = 0
    high_weight: float = 1.0
    judged: str = ""


ARMS: dict[str, NetworkArm] = {
    "unet": NetworkArm("the bare U-Net", head="plain"),
    "method": NetworkArm("frequency supervision on the U-Net"),
    "boundary": NetworkArm("the U-Net with boundary refinement", head="boundary"),
    "no_high_loss": NetworkArm("the method's layers without the loss on the high band", high_weight=0.0),
    "fc_net": NetworkArm("the bare FC-Net", "fc_net", head="plain"),
    "fc_net_method": NetworkArm("frequency supervision on the FC-Net", "fc_net"),
    "res_net": NetworkArm("the bare Res-Net", "res_net", head="plain"),
    "res_net_method": NetworkArm("frequency supervision on the Res-Net", "res_net"),
    "stacked": NetworkArm("refinement by three layers of 3 x 3 x 3", stacked=3),
    "k3": NetworkArm("factorised refinement with kernels of 3", k=3),
    "adversarial": NetworkArm("the method with a judge of the high band", judged="high"),
    "gan": NetworkArm("the bare U-Net with a judge of the CT", head="plain", judged="pred"),
}
