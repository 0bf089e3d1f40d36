"""Correspondence of label maps: similarity, then a stationary velocity field, on one-hot maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from medsynth_ext import ops

__all__ = ["LabelRegistration", "moment_matrix", "register_labels"]


@dataclass(frozen=True)
class LabelRegistration:
    """Where the points of the template lie in the subject: ``q = A (p + u(p))``, all in voxels."""

    matrix: Tensor  # (3, 4)
    displacement: Tensor  # (1, 3, X, Y, Z)
    dice: float  # mean over the parts, of the warped subject with the template

    def points(self, points: Tensor) -> Tensor:  # (N, 3) both
        """Move points of the template to the subject."""
        moved = ops.warp_points(points[None].float(), self.displacement, direction="forward")
        assert isinstance(moved, Tensor)
        return moved[0] @ self.matrix[:, :3].T + self.matrix[:, 3]


def moment_matrix(template: Tensor, subject: Tensor) -> Tensor:  # (X, Y, Z) masks -> (3, 4)
    """Similarity without rotation that brings the template's centroid and volume to the subject's."""
    centres = [mask.nonzero().float().mean(0) for mask in (template, subject)]
    scale = (subject.sum() / template.sum()).double().pow(1 / 3).float()
    linear = scale * torch.eye(3)
    return torch.cat([linear, (centres[1] - scale * centres[0])[:, None]], 1)


def register_labels(
    template: Tensor,  # (1, P, X, Y, Z) smoothed one-hot maps
    subject: Tensor,  # (1, P, X, Y, Z)
    *,
    grid: int = 32,
    levels: Sequence[int] = (4, 2, 1),
    iterations: int = 40,
    learning_rate: float = 0.1,
    bending: float = 0.05,
    similarity_iterations: int = 40,
) -> LabelRegistration:
    """Find the map from template to subject.

    Minimises the mean squared difference of the maps plus ``bending`` times the bending energy of the velocity. The
    velocity lives on a coarse grid and is resized to the image; coarse levels come first.

    Args:
        template: one map per part, background left out.
        subject: the same for the subject.
        grid: voxels per side of the velocity, at most those of the image.
        levels: factors by which the images are averaged down, coarse to fine.
        iterations: Adam steps per level.
        learning_rate: of Adam, in voxels of the velocity's grid.
        bending: weight of the mean squared second derivatives.
        similarity_iterations: Adam steps for rotation, scale and translation, at the coarsest level.
    """
    start = moment_matrix(template.sum(1)[0] > 0.5, subject.sum(1)[0] > 0.5)
    matrix = _similarity(template, subject, start, levels[0], similarity_iterations)
    size = template.shape[2:]
    coarse = [min(grid, n) for n in size]
    velocity = torch.zeros(1, 3, *coarse, requires_grad=True)
    for level in levels:
        fixed, moving = (F.avg_pool3d(maps, level) if level > 1 else maps for maps in (template, subject))
        at_level = _at_level(matrix, level)[None]
        optimizer = torch.optim.Adam([velocity], lr=learning_rate)
        for _ in range(iterations):
            moved = _warped(moving, velocity, at_level, fixed.shape[2:])
            loss = (moved - fixed).square().sum(1).mean() + bending * _bending(velocity)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        displacement = ops.integrate_svf(ops.resize_field(velocity, size))
        moved = ops.affine_svf_warp(subject, matrix[None], displacement, out_shape=tuple(size), mode="linear") > 0.5
        fixed = template > 0.5
        both, total = ((f(moved, fixed)).flatten(2).sum(2)[0].float() for f in (torch.logical_and, _sum))
        dice = (2 * both / total.clamp_min(1)).mean().item()
    return LabelRegistration(matrix, displacement, dice)


def _sum(a: Tensor, b: Tensor) -> Tensor:
    return a.float() + b.float()


def _warped(moving: Tensor, velocity: Tensor, matrix: Tensor, shape: Sequence[int]) -> Tensor:
    displacement = ops.integrate_svf(ops.resize_field(velocity, shape), 5)
    return ops.affine_svf_warp(moving, matrix, displacement, out_shape=tuple(shape), mode="linear")


def _at_level(matrix: Tensor, level: int) -> Tensor:
    """The same map in voxels that are ``level`` times as large: a fine index is ``level c + (level - 1) / 2``."""
    half = (level - 1) / 2
    offset = (matrix[:, :3] @ torch.full((3,), half) + matrix[:, 3] - half) / level
    return torch.cat([matrix[:, :3], offset[:, None]], 1)


def _bending(velocity: Tensor) -> Tensor:
    total = velocity.new_zeros(())
    for a in (2, 3, 4):
        first = velocity.diff(dim=a)
        for b in (2, 3, 4):
            total = total + first.diff(dim=b).square().mean()
    return total


def _similarity(template: Tensor, subject: Tensor, start: Tensor, level: int, iterations: int) -> Tensor:
    fixed, moving = (F.avg_pool3d(maps, level) if level > 1 else maps for maps in (template, subject))
    centre = (torch.tensor(template.shape[2:]) - 1) / 2
    middle = start[:, :3] @ centre + start[:, 3]  # where the centre goes
    # Turn in radians, logarithm of the scale, shift in tenths of a voxel so that one rate serves all.
    turn, grow, shift = torch.zeros(3), torch.zeros(1), torch.zeros(3)
    for parameter in (turn, grow, shift):
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam([turn, grow, shift], lr=0.02)

    def matrix() -> Tensor:
        x, y, z = turn
        zero = torch.zeros(())
        skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).view(3, 3)
        linear = torch.linalg.matrix_exp(skew) @ start[:, :3] * grow.exp()
        offset = middle + 10 * shift - linear @ centre
        return torch.cat([linear, offset[:, None]], 1)

    for _ in range(iterations):
        moved = ops.affine_svf_warp(
            moving, _at_level(matrix(), level)[None], out_shape=tuple(fixed.shape[2:]), mode="linear"
        )
        loss = (moved - fixed).square().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return matrix().detach()
