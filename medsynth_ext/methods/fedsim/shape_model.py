"""The statistical shape model: from shape parameters to the surfaces of the heart, and to voxels."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medsynth_ext import ops
from medsynth_ext.data.files import replacing

__all__ = ["POSE_PARAMETERS", "ShapeModel", "ShapeModelError"]

POSE_PARAMETERS = 7  # three angles, three translations, a scale
_FIELDS = ("mean", "modes", "eigenvalues", "faces", "face_part", "fov_mm")


class ShapeModelError(ValueError):
    """A shape model that cannot be used; the message says what was wanted and what came."""


class ShapeModel(nn.Module):
    """Mean surface, modes and pose. Vertices are in mm along the tensor's axes, 0 in the middle of the field of view.

    Parameters t in (-1, 1) are decoded as ``b_j = deviations sqrt(eigenvalue_j) t_j`` for the modes, then three Euler
    angles, three translations and the logarithm of the scale: ``v = scale R (mean + modes b) + translation`` with
    ``R = Rz Ry Rx`` about the mean's centroid.

    Args:
        mean: (V, 3) mm.
        modes: (3 V, L) orthonormal columns.
        eigenvalues: (L,) variances in mm squared.
        faces: (F, 3) vertex numbers; every part is a closed surface.
        face_part: (F,) part of a face, from 0.
        fov_mm: side of the field of view.
        deviations: range of a mode in standard deviations.
        angle_deg: range of an angle.
        shift: range of a translation as a share of the field of view.
        log_scale: range of the logarithm of the scale.

    Raises:
        ShapeModelError: for arrays that do not fit each other, or a part that is not closed.
    """

    mean: Tensor
    modes: Tensor
    eigenvalues: Tensor
    faces: Tensor
    face_part: Tensor

    def __init__(
        self,
        mean: Tensor,
        modes: Tensor,
        eigenvalues: Tensor,
        faces: Tensor,
        face_part: Tensor,
        fov_mm: float,
        *,
        deviations: float = 1.5,
        angle_deg: float = 30.0,
        shift: float = 0.15,
        log_scale: float = 0.35,
    ) -> None:
        super().__init__()
        _check(mean, modes, eigenvalues, faces, face_part)
        # Not part of the state: a checkpoint holds what is learned.
        for name, value, dtype in (
            ("mean", mean, torch.float32),
            ("modes", modes, torch.float32),
            ("eigenvalues", eigenvalues, torch.float32),
            ("faces", faces, torch.int64),
            ("face_part", face_part, torch.int64),
        ):
            self.register_buffer(name, torch.as_tensor(value).to(dtype), persistent=False)
        self.fov_mm = float(fov_mm)
        self.deviations = deviations
        self.angle = math.radians(angle_deg)
        self.shift = shift
        self.log_scale = log_scale

    @property
    def parameters_count(self) -> int:
        """Modes and pose."""
        return len(self.eigenvalues) + POSE_PARAMETERS

    @property
    def n_parts(self) -> int:
        """Number of surfaces."""
        return int(self.face_part.max()) + 1

    @classmethod
    def load(cls, path: str | Path, **options: float) -> ShapeModel:
        """Read a model from ``.npz``; ``options`` are the ranges of the constructor.

        Raises:
            ShapeModelError: when the file is missing, damaged or no shape model.
        """
        path = Path(path)
        if not path.is_file():
            raise ShapeModelError(f"the shape model {path} does not exist; make one with configs/shape_model.json")
        try:
            with np.load(path, allow_pickle=False) as file:
                missing = [name for name in _FIELDS if name not in file]
                if missing:
                    raise ShapeModelError(f"the shape model {path} lacks {', '.join(missing)}")
                arrays = {name: file[name] for name in _FIELDS}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            if isinstance(error, ShapeModelError):
                raise
            raise ShapeModelError(f"the shape model {path} cannot be read: {error}") from error
        fov = float(arrays.pop("fov_mm"))
        tensors = {name: torch.from_numpy(np.asarray(a, dtype=np.float64)) for name, a in arrays.items()}
        mean, modes, eigenvalues, faces, part = (tensors[name] for name in _FIELDS[:-1])
        return cls(mean, modes, eigenvalues, faces, part, fov, **options)

    def save(self, path: str | Path) -> None:
        """Write ``mean`` (V, 3), ``modes`` (3 V, L), ``eigenvalues``, ``faces``, ``face_part`` and ``fov_mm``."""
        with replacing(path) as temporary:
            np.savez_compressed(
                temporary,
                mean=self.mean.cpu().numpy().astype(np.float32),
                modes=self.modes.cpu().numpy().astype(np.float32),
                eigenvalues=self.eigenvalues.cpu().numpy().astype(np.float32),
                faces=self.faces.cpu().numpy().astype(np.int32),
                face_part=self.face_part.cpu().numpy().astype(np.uint8),
                fov_mm=np.float32(self.fov_mm),
            )

    def vertices(self, t: Tensor) -> Tensor:  # (B, L + 7) -> (B, V, 3) mm
        """Decode shape parameters; differentiable."""
        modes = len(self.eigenvalues)
        if t.ndim != 2 or t.shape[1] != modes + POSE_PARAMETERS:
            raise ValueError(f"t must be (B, {modes + POSE_PARAMETERS}), got {tuple(t.shape)}")
        b = self.deviations * self.eigenvalues.to(t).sqrt() * t[:, :modes]
        shape = self.mean.to(t) + (b @ self.modes.to(t).T).view(len(t), -1, 3)
        centre = self.mean.to(t).mean(0)
        turn = _rotation(self.angle * t[:, modes : modes + 3])
        shift = self.shift * self.fov_mm * t[:, modes + 3 : modes + 6]
        scale = torch.exp(self.log_scale * t[:, modes + 6])
        turned = (shape - centre) @ turn.transpose(1, 2)
        return scale[:, None, None] * turned + centre + shift[:, None]

    def to_voxels(self, vertices_mm: Tensor, size: int) -> Tensor:  # (..., 3) both
        """Index coordinates on a grid of ``size`` voxels per side that fills the field of view."""
        return (vertices_mm / self.fov_mm + 0.5) * size - 0.5

    def occupancy(self, t: Tensor, size: int, *, slice_index: Tensor | None = None) -> Tensor:
        """Which part has which voxel, (B, parts, X, Y, Z); overlaps go to the part of the lower number.

        The gradient to ``t`` is the surface integral of ``ops.voxelize_mesh``.

        Args:
            t: (B, L + 7) shape parameters.
            size: voxels per side.
            slice_index: (B,) take only this slice of Z; the result is (B, parts, X, Y) then.
        """
        vertices = self.to_voxels(self.vertices(t), size)
        result: Any = ops.voxelize_mesh(
            vertices,
            self.faces,
            shape=(size, size, size),
            part=self.face_part,
            n_parts=self.n_parts,
            priority=tuple(range(self.n_parts)),
            slice_index=slice_index,
        )
        return result

    def part_labels(self, t: Tensor, size: int) -> Tensor:  # (B, 1, X, Y, Z) uint8, 0 background
        """Label map of the parts, from 1."""
        with torch.no_grad():
            owned = self.occupancy(t, size)
        numbers = torch.arange(1, self.n_parts + 1, device=t.device, dtype=owned.dtype)
        return torch.einsum("bpxyz,p->bxyz", owned, numbers)[:, None].to(torch.uint8)

    def outside(self, t: Tensor) -> Tensor:  # (B,) bool
        """Whether a vertex leaves the field of view."""
        return (self.vertices(t).abs() > self.fov_mm / 2).flatten(1).any(1)


def _rotation(angles: Tensor) -> Tensor:  # (B, 3) radians about x, y, z -> (B, 3, 3)
    c, s = angles.cos().unbind(1), angles.sin().unbind(1)
    one, zero = torch.ones_like(c[0]), torch.zeros_like(c[0])

    def matrix(*rows: Tensor) -> Tensor:
        return torch.stack(rows, 1).view(-1, 3, 3)

    about_x = matrix(one, zero, zero, zero, c[0], -s[0], zero, s[0], c[0])
    about_y = matrix(c[1], zero, s[1], zero, one, zero, -s[1], zero, c[1])
    about_z = matrix(c[2], -s[2], zero, s[2], c[2], zero, zero, zero, one)
    return about_z @ about_y @ about_x


def _check(mean: Tensor, modes: Tensor, eigenvalues: Tensor, faces: Tensor, face_part: Tensor) -> None:
    count = len(mean)
    if mean.ndim != 2 or mean.shape[1] != 3 or not count:
        raise ShapeModelError(f"mean must be (V, 3), got {tuple(mean.shape)}")
    if tuple(modes.shape) != (3 * count, len(eigenvalues)) or not len(eigenvalues):
        raise ShapeModelError(
            f"modes must be ({3 * count}, L) with an eigenvalue per column, got {tuple(modes.shape)} and "
            f"{tuple(eigenvalues.shape)}"
        )
    if faces.ndim != 2 or faces.shape[1] != 3 or len(face_part) != len(faces):
        raise ShapeModelError(
            f"faces must be (F, 3) with a part each, got {tuple(faces.shape)} and {tuple(face_part.shape)}"
        )
    if not len(faces) or faces.min() < 0 or faces.max() >= count:
        raise ShapeModelError(f"faces must hold vertex numbers below {count}")
    for name, values in (("mean", mean), ("modes", modes), ("eigenvalues", eigenvalues)):
        if not torch.isfinite(torch.as_tensor(values)).all():
            raise ShapeModelError(f"{name} holds values that are not finite")
    edges = torch.as_tensor(faces).long()[:, [0, 1, 1, 2, 2, 0]].view(-1, 2).sort(1).values
    _, counts = torch.unique(edges, dim=0, return_counts=True)
    if (counts != 2).any():
        raise ShapeModelError(
            f"every part must be a closed surface, but {int((counts != 2).sum())} edges do not have two faces"
        )
