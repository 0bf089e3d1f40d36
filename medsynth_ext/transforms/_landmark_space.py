"""Landmarks between an image's voxels and the world, in float64."""

from __future__ import annotations

import torch
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd
from torch import Tensor

__all__ = ["SPACES", "voxels_to_world", "world_to_voxels"]

SPACES = ("world", "voxel")


def _affine(image: Tensor, name: str) -> Tensor:
    if not isinstance(image, MetaTensor):
        raise TypeError(f"{name} must be a MetaTensor, whose affine tells where it lies, got {type(image).__name__}")
    matrix = to_affine_nd(image.ndim - 1, image.affine.detach().cpu().double())
    return torch.as_tensor(matrix)


def voxels_to_world(
    points: Tensor,  # (N, D)
    image: Tensor,  # (C, *S)
    name: str,
) -> Tensor:  # (N, D) float64
    """World positions of voxel coordinates of an image."""
    matrix = _affine(image, name).to(points.device)
    return points.double() @ matrix[:-1, :-1].T + matrix[:-1, -1]


def world_to_voxels(
    points: Tensor,  # (N, D)
    image: Tensor,  # (C, *S)
    name: str,
) -> Tensor:  # (N, D) float64
    """Voxel coordinates of world positions in an image."""
    matrix = torch.linalg.inv(_affine(image, name)).to(points.device)
    return points.double() @ matrix[:-1, :-1].T + matrix[:-1, -1]
