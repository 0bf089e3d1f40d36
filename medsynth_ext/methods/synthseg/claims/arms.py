"""The arms: what each network is trained on, and on which part of the test it is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ARMS", "NetworkArm"]

_NO_DEFORMATION = {"rotation_deg": 0.0, "scaling": 0.0, "shearing": 0.0, "svf_std": 0.0}


@dataclass(frozen=True)
class NetworkArm:
    """A network of its own.

    Args:
        description: in words.
        ranges: arguments of the generator's ranges that differ from the method's.
        maps: how many of the young maps are used; all when ``None``.
        old: whether old people's automatic maps are used as well.
        scans: whether it is trained on scans instead of synthetic images.
        groups: parts of the test.
        flip: whether the mirrored image is tried.
    """

    description: str
    ranges: Mapping[str, Any] = field(default_factory=dict)
    maps: int | None = None
    old: bool = False
    scans: bool = False
    groups: tuple[str, ...] = ("main",)
    flip: bool = False


ARMS: dict[str, NetworkArm] = {
    "synthseg": NetworkArm(
        "the method, on young maps",
        groups=("main", "large", "lesions"),
        flip=True,
    ),
    "t1_baseline": NetworkArm(
        "T1 scans of the same people with the same spatial, bias and gamma augmentation",
        {"strip_prob": 0.0, "lesion_prob": 1.0},
        scans=True,
    ),
    "no_resolution": NetworkArm("without random resolution", {"randomise_resolution": False}),
    "no_deformation": NetworkArm("without affine and diffeomorphic deformation", _NO_DEFORMATION),
    "no_bias": NetworkArm("without bias field", {"bias_prob": 0.0}),
    "tight_1": NetworkArm("slightly tighter intensity priors", {"mean_range": (10.0, 240.0), "std_range": (1.0, 25.0)}),
    "tight_2": NetworkArm("much tighter intensity priors", {"mean_range": (50.0, 200.0), "std_range": (1.0, 15.0)}),
    "no_lesions": NetworkArm("lesions always look like white matter", {"lesion_prob": 0.0}, groups=("main", "lesions")),
    "one_map": NetworkArm("a single map", maps=1),
    "five_maps": NetworkArm("five maps", maps=5),
    "all_maps": NetworkArm("young maps and automatic maps of old people", old=True, groups=("main", "large", "groups")),
}
