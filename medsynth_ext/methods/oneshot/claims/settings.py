"""The numbers of a run of the claims, and the arms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from medsynth_ext.claims.settings import StudySettings
from medsynth_ext.methods.oneshot.transfer import RegistrationSettings

__all__ = ["ARMS", "SPLITS", "Settings", "TransferArm"]

# First phantom of each part; every seed of a part has its own block of phantoms.
SPLITS = {"validation": 500_000, "test": 700_000}
BLOCK = 1000


@dataclass(frozen=True)
class Settings(StudySettings):
    """One scale.

    Args:
        anatomy: of the phantoms, one of ``ANATOMIES``.
        size: voxels of a phantom.
        spacing_mm: their size.
        translation_mm: largest shift of a subject.
        cube: edge of the network's cube.
        features: channels of the network.
        norm: with batch normalisation.
        prior: probability that an untrained network gives.
        steps: training steps.
        batch_size: slices per step.
        slices_per_volume: slices of a transformed copy.
        learning_rate: Adam's rate.
        lr_decay: factor per transformed copy.
        shift_mm: of the copies.
        rotation_deg: of the copies.
        cases: test volumes of a seed.
        annotator_mm: standard deviation of a simulated person along every axis.
        seeds: reference, network and test volumes are drawn once per seed.
        weights: of a trained network, for example the bundle's; ``None`` trains one a seed.
        reference_person: the phantom on which those weights were trained; ``None`` draws one a seed.
        localisation: options of ``Localiser``.
        registration: fields of ``RegistrationSettings``.
        thresholds: limits of the claims.
    """

    anatomy: str
    size: tuple[int, ...]
    spacing_mm: float
    translation_mm: float
    cube: int
    features: tuple[int, ...]
    norm: bool
    prior: float
    steps: int
    batch_size: int
    slices_per_volume: int
    learning_rate: float
    lr_decay: float
    shift_mm: float
    rotation_deg: float
    cases: int
    annotator_mm: float
    seeds: tuple[int, ...]
    weights: str | None
    reference_person: int | None
    localisation: Mapping[str, Any]
    registration: Mapping[str, Any]
    thresholds: Mapping[str, float]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Settings:
        """Read one scale of the config; ``workers`` and ``data_workers`` in it belong to the machinery.

        Raises:
            ValueError: for missing or unknown entries, or weights without their reference.
        """
        settings = super().from_config(config)
        if (settings.weights is None) != (settings.reference_person is None):
            raise ValueError("weights and reference_person belong together: give both or neither")
        return settings

    def registration_settings(self, **changes: Any) -> RegistrationSettings:
        """The registration with some fields changed."""
        return RegistrationSettings.of({**self.registration, **changes})


@dataclass(frozen=True)
class TransferArm:
    """One way to carry landmarks over; all of a seed share its network.

    Args:
        description: in words.
        registration: fields of ``RegistrationSettings`` that differ from the method's.
        fusion: of the views.
        localisation: options of ``Localiser`` that differ from the method's.
        search_only: localisation without restarts, and nothing after it.
        naive: no localisation: the whole volume is registered, from centre to centre.
    """

    description: str
    registration: Mapping[str, Any] = field(default_factory=dict)
    fusion: str = "product"
    localisation: Mapping[str, Any] = field(default_factory=dict)
    search_only: bool = False
    naive: bool = False


ARMS: dict[str, TransferArm] = {
    "full": TransferArm("the method"),
    "naive": TransferArm("the same demons on the whole volumes, without localisation", naive=True),
    "rigid": TransferArm("the method without demons", {"demons_iterations": ()}),
    "no_axes": TransferArm("the method without principal axes", {"use_axes": False}),
    "from_centre": TransferArm(
        "localisation from the volume's centre, as the paper's loop",
        localisation={"coarse_factor": None},
        search_only=True,
    ),
    "view_x": TransferArm("localisation from the slices across the first axis", fusion="x", search_only=True),
    "view_y": TransferArm("localisation from the slices across the second axis", fusion="y", search_only=True),
    "view_z": TransferArm("localisation from the slices across the third axis", fusion="z", search_only=True),
    "mean": TransferArm("localisation from the mean of the three views", fusion="mean", search_only=True),
}
