"""The landmark transfer as MONAI's inferer: a volume and the slice network in, landmarks out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor

from medsynth_ext.methods.oneshot.localisation import Localiser
from medsynth_ext.methods.oneshot.reference import Reference
from medsynth_ext.methods.oneshot.transfer import LandmarkTransfer, RegistrationSettings, Transfer

__all__ = ["OneShotInferer"]

FLAGS = ("not_found", "not_converged", "little_found", "low_correlation", "folded", "outside")


class OneShotInferer(Inferer):
    """Localises, registers and carries the landmarks over, one volume after the other.

    Args:
        reference: file that the training wrote beside the weights; read at the first call.
        spacing_mm: of the volumes; must be the reference's.
        size: edge in voxels of the cube that the network sees.
        localisation: options of :class:`Localiser`.
        registration: fields of :class:`RegistrationSettings`.
    """

    def __init__(
        self,
        reference: str | os.PathLike,
        *,
        spacing_mm: float,
        size: int,
        localisation: Mapping[str, Any] | None = None,
        registration: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.path = reference
        self.spacing_mm = spacing_mm
        self.size = size
        self.localisation = dict(localisation or {})
        self.registration = RegistrationSettings.of(registration or {})
        self._reference: Reference | None = None

    @property
    def reference(self) -> Reference:
        """The annotated structure.

        Raises:
            WeightsError: when its file is missing, or has another voxel size.
        """
        if self._reference is None:
            self._reference = Reference.load(self.path, spacing_mm=self.spacing_mm)
        return self._reference

    def __call__(
        self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any
    ) -> dict[str, Tensor]:  # of (B, 1, X, Y, Z)
        """Landmarks (B, N, 3) in voxels, and how they were found; see :func:`summary`."""
        localiser = Localiser(
            network,
            size=self.size,
            spacing_mm=self.spacing_mm,
            reference_volume_mm3=self.reference.volume_mm3,
            **self.localisation,
        )
        transfer = LandmarkTransfer(self.reference, localiser, self.registration)
        volumes = inputs.as_subclass(torch.Tensor).float()
        results = [summary(transfer(volume[None])) for volume in volumes]
        return {name: torch.stack([result[name] for result in results]) for name in results[0]}


def summary(transfer: Transfer) -> dict[str, Tensor]:
    """What a transfer found, as tensors."""
    found = transfer.localisation
    return {
        "landmarks": transfer.landmarks,  # (N, 3) voxels
        "rigid_landmarks": transfer.rigid_landmarks,
        "centre": found.centre,  # (3,) voxels
        "cube_centre": found.cube_centre,
        "probability": found.probability[None],  # (1, S, S, S)
        "patch": transfer.patch[None],
        "alignment": torch.cat([transfer.alignment.linear, transfer.alignment.centre[:, None]], 1),  # (3, 4)
        "correlation": torch.tensor(transfer.correlation),  # centred, turned, rigid, deformed
        "figures": torch.tensor(
            [
                found.mass_ratio,
                float(found.iterations),
                float(found.converged),
                float(found.restarts),
                transfer.rotation_deg,
                transfer.least_jacobian,
            ],
            dtype=torch.float64,
        ),
        "flags": torch.tensor([flag in transfer.flags for flag in FLAGS]),
    }
