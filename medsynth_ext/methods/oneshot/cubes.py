"""Cubes out of volumes: turned, shifted, scaled, straight from the volume in one sampling."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from medsynth_ext import ops

__all__ = ["rotation_about_axes", "rotation_degrees", "sample_cube"]


def sample_cube(
    volume: Tensor,  # (1, C, X, Y, Z)
    centre: Tensor,  # (3,) voxels
    linear: Tensor,  # (3, 3)
    size: int,
    *,
    mode: str = "linear",
) -> Tensor:  # (1, C, size, size, size)
    """The cube whose voxel ``w`` shows the volume at ``centre + linear (w - c)``, ``c`` the cube's middle.

    What lies outside of the volume repeats its border.
    """
    linear = linear.detach().double().cpu()
    shift = centre.detach().double().cpu() - linear.sum(1) * (size - 1) / 2
    matrix = torch.cat([linear, shift[:, None]], 1)[None]
    dtype = volume.dtype if volume.is_floating_point() else torch.float32
    matrix = matrix.to(volume.device, dtype)
    return ops.affine_svf_warp(volume, matrix, out_shape=(size, size, size), mode=mode, border="clamp")


def rotation_about_axes(angles: Sequence[float]) -> Tensor:  # (3, 3) float64
    """Turns in radians about the first, then the second, then the third axis."""
    result = torch.eye(3, dtype=torch.float64)
    for axis, angle in enumerate(angles):
        a, b = (d for d in range(3) if d != axis)
        turn = torch.eye(3, dtype=torch.float64)
        turn[a, a] = turn[b, b] = math.cos(angle)
        turn[b, a] = math.sin(angle)
        turn[a, b] = -turn[b, a]
        result = turn @ result
    return result


def rotation_degrees(rotation: Tensor) -> float:  # of (3, 3)
    """Angle of a rotation."""
    cosine = (float(rotation.trace()) - 1) / 2
    return math.degrees(math.acos(min(1.0, max(-1.0, cosine))))
