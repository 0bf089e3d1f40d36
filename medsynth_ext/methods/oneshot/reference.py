"""What is kept of the annotated volume: a cube about the structure, its outline and the landmarks."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from medsynth_ext import ops
from medsynth_ext.data.files import replacing
from medsynth_ext.data.landmark_files import read_landmarks
from medsynth_ext.handlers.weights import WeightsError
from medsynth_ext.methods.oneshot.cubes import sample_cube
from medsynth_ext.methods.oneshot.slices import mask_centre
from medsynth_ext.transforms._landmark_space import world_to_voxels

__all__ = ["Reference", "make_reference", "prepare_reference"]


@dataclass(frozen=True)
class Reference:
    """The annotated structure on a cube of voxels whose middle is its centre of mass.

    Args:
        image: (S, S, S) float32 in [0, 1].
        mask: (S, S, S) uint8.
        landmarks: (N, 3) float64 voxels of the cube.
        names: of the landmarks.
        spacing_mm: voxel size.
    """

    image: Tensor = field(repr=False)
    mask: Tensor = field(repr=False)
    landmarks: Tensor
    names: tuple[str, ...]
    spacing_mm: float

    @property
    def size(self) -> int:
        """Edge of the cube in voxels."""
        return self.image.shape[0]

    @property
    def volume_mm3(self) -> float:
        """Volume of the structure."""
        return float(self.mask.sum()) * self.spacing_mm**3

    def covariance(self) -> Tensor:  # (3, 3) mm^2
        """Second moments of the structure."""
        return ops.heatmap_moments(self.mask[None].double(), self.spacing_mm)[2][0]

    def weight(self, reach_mm: float) -> Tensor:  # (S, S, S)
        """1 on the structure, falling to 0 about ``reach_mm`` away from it."""
        sigma = reach_mm / 2 / self.spacing_mm
        smooth = ops.gaussian_blur(self.mask[None, None].float(), sigma)[0, 0]
        return (smooth / smooth.max() * 4).clamp(0, 1)

    def save(self, path: str | os.PathLike) -> None:
        """Write it whole or not at all.

        Raises:
            OutputError: when the file cannot be written.
        """
        with replacing(path) as temporary, Path(temporary).open("wb") as file:
            np.savez_compressed(
                file,
                image=(self.image.clamp(0, 1) * 4095).round().numpy().astype(np.uint16),
                mask=np.packbits(self.mask.numpy()),
                landmarks=self.landmarks.numpy(),
                names=np.array(self.names),
                spacing_mm=self.spacing_mm,
            )

    @classmethod
    def load(cls, path: str | os.PathLike, *, spacing_mm: float | None = None) -> Reference:
        """Read what :meth:`save` wrote.

        Args:
            path: the file.
            spacing_mm: the voxel size that it must have.

        Raises:
            WeightsError: when the file is missing, is something else or has another voxel size; one sentence.
        """
        path = Path(path)
        if not path.is_file():
            raise WeightsError(f"the reference {path} does not exist; training writes it beside the weights")
        try:
            with np.load(path, allow_pickle=False) as stored:
                image = torch.from_numpy(stored["image"].astype(np.float32) / 4095)
                mask = np.unpackbits(stored["mask"], count=image.numel()).reshape(image.shape)
                landmarks = torch.from_numpy(stored["landmarks"].astype(np.float64))
                names = tuple(str(name) for name in stored["names"])
                spacing = float(stored["spacing_mm"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise WeightsError(f"{path} is no reference as the training writes it: {error}") from error
        fits = image.ndim == 3 and len(set(image.shape)) == 1 and landmarks.shape == (len(names), 3) and spacing > 0
        if not fits or not mask.any():
            raise WeightsError(f"{path} holds a cube of {tuple(image.shape)} and landmarks of {tuple(landmarks.shape)}")
        if spacing_mm is not None and abs(spacing / spacing_mm - 1) > 1e-3:
            raise WeightsError(f"{path} has voxels of {spacing:g} mm, wanted {spacing_mm:g} mm (spacing_mm)")
        return cls(image, torch.from_numpy(mask), landmarks, names, spacing)


def make_reference(
    image: Tensor,  # (1, X, Y, Z) in [0, 1]
    mask: Tensor,  # (1, X, Y, Z)
    landmarks: Tensor,  # (N, 3) voxels
    names: Sequence[str],
    *,
    size: int,
    spacing_mm: float,
) -> Reference:
    """Cut the cube out of the annotated volume.

    Raises:
        ValueError: for an empty mask, or landmarks that are not numbers, are there twice, or lie outside of the cube.
    """
    binary = (mask > 0.5).to(torch.uint8)
    centre = mask_centre(binary[0])
    eye = torch.eye(3, dtype=torch.float64)
    cube = sample_cube(image[None].float(), centre, eye, size)[0, 0]
    outline = sample_cube(binary[None], centre, eye, size, mode="nearest")[0, 0]
    places = landmarks.double() - centre + (size - 1) / 2
    for i, (name, place) in enumerate(zip(names, places, strict=True)):
        if not bool(place.isfinite().all()):
            raise ValueError(f"the reference's landmark {name} has no position")
        if not bool(((place >= 0) & (place <= size - 1)).all()):
            away = float((landmarks[i] - centre).abs().max()) * spacing_mm
            raise ValueError(
                f"the reference's landmark {name} is {away:.1f} mm from the structure's centre, outside of the cube of "
                f"{size * spacing_mm:g} mm; enlarge the cube (patch_size)"
            )
        for other, earlier in zip(names[:i], places[:i], strict=True):
            if torch.equal(earlier, place):
                raise ValueError(f"the reference's landmarks {other} and {name} are at the same place")
    return Reference(cube, outline, places, tuple(names), spacing_mm)


def prepare_reference(
    item: Mapping[str, Any], landmarks: str | os.PathLike, *, size: int, spacing_mm: float
) -> Reference:
    """The reference of a loaded and resampled ``{"image", "label"}`` and its landmark file, which has world positions.

    Raises:
        LandmarkFileError: for a file that cannot be used.
        ValueError: as :func:`make_reference` does, or for landmarks without world positions.
    """
    points = read_landmarks(landmarks)
    if points.world_mm is None:
        raise ValueError(f"{landmarks} must hold world_mm for every landmark")
    image = item["image"]
    if not isinstance(image, MetaTensor):
        raise TypeError(f"image must be a MetaTensor, got {type(image).__name__}")
    places = world_to_voxels(torch.from_numpy(points.world_mm), image, "image")
    plain = image.as_subclass(torch.Tensor), torch.as_tensor(item["label"]).as_subclass(torch.Tensor)
    try:
        return make_reference(*plain, places, points.names, size=size, spacing_mm=spacing_mm)
    except ValueError as error:
        raise ValueError(f"{landmarks}: {error}") from error
