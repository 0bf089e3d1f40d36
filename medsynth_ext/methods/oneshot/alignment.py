"""Turning the found structure into the reference's frame: principal axes, then a rigid refinement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medsynth_ext import ops
from medsynth_ext.methods.oneshot.cubes import rotation_degrees, sample_cube

__all__ = ["Alignment", "axes_candidates", "best_candidate", "correlation", "match_intensity", "rigid_refinement"]

_SIGNS = ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))


@dataclass(frozen=True)
class Alignment:
    """The cube's voxel ``w`` shows the target at ``centre + linear (w - c)``.

    Args:
        centre: (3,) voxels of the target.
        linear: (3, 3) rotation from the reference's frame to the target's.
    """

    centre: Tensor
    linear: Tensor

    def cube(self, volume: Tensor, size: int) -> Tensor:  # (1, 1, S, S, S)
        """The target in the reference's frame."""
        return sample_cube(volume, self.centre, self.linear, size)

    def to_target(self, places: Tensor, size: int) -> Tensor:  # (N, 3) to (N, 3) voxels
        """From voxels of the cube to voxels of the target."""
        return self.centre + (places.double() - (size - 1) / 2) @ self.linear.T


def axes_candidates(reference: Tensor, target: Tensor, *, least_gap: float = 0.1) -> list[Tensor]:
    """Rotations (3, 3) from the target's frame to the reference's that let the principal axes coincide.

    Eigenvectors are known up to their signs, which leaves four proper rotations. Where two eigenvalues of one of the
    covariances differ by less than ``least_gap`` of the larger one, the axes mean little, and the identity joins.

    Args:
        reference: (3, 3) covariance.
        target: (3, 3) covariance.
        least_gap: relative difference of eigenvalues that tells axes apart.
    """
    frames, distinct = [], True
    for covariance in (reference, target):
        values, vectors = torch.linalg.eigh(covariance.double())
        if torch.linalg.det(vectors) < 0:
            vectors = vectors * torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)
        frames.append(vectors)
        distinct &= bool(((values[1:] - values[:-1]) >= least_gap * values[1:]).all())
    candidates = [frames[0] @ torch.diag(torch.tensor(s, dtype=torch.float64)) @ frames[1].T for s in _SIGNS]
    return candidates if distinct else [torch.eye(3, dtype=torch.float64), *candidates]


def correlation(a: Tensor, b: Tensor, weight: Tensor) -> float:
    """Weighted normalised cross-correlation of two volumes; 0 when one of them is flat."""
    share = weight / weight.sum()
    a, b = a - (share * a).sum(), b - (share * b).sum()
    norm = ((share * a * a).sum() * (share * b * b).sum()).sqrt()
    return float((share * a * b).sum() / norm) if float(norm) > 1e-12 else 0.0


def match_intensity(moving: Tensor, fixed: Tensor, weight: Tensor) -> Tensor:
    """``moving`` with the weighted mean and standard deviation of ``fixed``."""
    share = weight / weight.sum()
    means = [(share * v).sum() for v in (moving, fixed)]
    stds = [(share * (v - m) ** 2).sum().sqrt() for v, m in zip((moving, fixed), means, strict=True)]
    return (moving - means[0]) * (stds[1] / stds[0].clamp(min=1e-6)) + means[1]


def best_candidate(
    volume: Tensor,  # (1, 1, X, Y, Z)
    centre: Tensor,  # (3,) voxels
    candidates: Sequence[Tensor],
    reference: Tensor,  # (1, 1, S, S, S)
    weight: Tensor,  # (S, S, S)
    *,
    refine: Callable[[Alignment], Alignment] = lambda alignment: alignment,
    max_rotation_deg: float | None = None,
) -> tuple[Alignment, Alignment]:
    """The candidate whose cube looks most like the reference, as it is and refined.

    Principal axes of a small structure are off by some degrees, so candidates are compared after their refinement.

    Args:
        volume: the target.
        centre: of the structure in it.
        candidates: rotations from the target's frame to the reference's.
        reference: the reference's cube.
        weight: which voxels count.
        refine: improves an alignment.
        max_rotation_deg: leave out larger rotations, for scans that share an orientation; the identity stays.
    """
    if max_rotation_deg is not None:
        candidates = [r for r in candidates if rotation_degrees(r) <= max_rotation_deg]
    options = [Alignment(centre, r.T) for r in candidates or [torch.eye(3, dtype=torch.float64)]]
    refined = [refine(option) for option in options]
    scores = [correlation(r.cube(volume, weight.shape[0])[0, 0], reference[0, 0], weight) for r in refined]
    best = scores.index(max(scores))
    return options[best], refined[best]


def rigid_refinement(
    volume: Tensor,  # (1, 1, X, Y, Z)
    start: Alignment,
    reference: Tensor,  # (1, 1, S, S, S)
    weight: Tensor,  # (S, S, S)
    *,
    sigmas: Sequence[float] = (2.0, 1.0),
    iterations: int = 10,
) -> Alignment:
    """Least squares of the intensities over turns and shifts, by damped Gauss-Newton steps from blurred to sharp.

    Args:
        volume: the target.
        start: where to begin.
        reference: the reference's cube.
        weight: which voxels count.
        sigmas: of the blur, in voxels, one level each.
        iterations: steps per level.
    """
    size = weight.shape[0]
    axis = torch.arange(size, device=weight.device, dtype=weight.dtype) - (size - 1) / 2
    offsets = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    w = weight.reshape(-1)
    now = start
    for sigma in sigmas:
        fixed, target = ops.gaussian_blur(reference, sigma)[0, 0], ops.gaussian_blur(volume, sigma)

        def cost(alignment: Alignment, fixed: Tensor = fixed, target: Tensor = target) -> tuple[Tensor, Tensor]:
            moving = match_intensity(alignment.cube(target, size)[0, 0], fixed, weight)
            return moving, (weight * (fixed - moving).square()).sum()

        moving, value = cost(now)
        damping = 1e-3
        for _ in range(iterations):
            slope = torch.stack(torch.gradient(moving), -1).reshape(-1, 3)
            jacobian = torch.cat([torch.linalg.cross(offsets, slope), slope], 1)
            residual = (fixed - moving).reshape(-1)
            normal = (jacobian.T @ (w[:, None] * jacobian)).double().cpu()
            right = (jacobian.T @ (w * residual)).double().cpu()
            change = torch.linalg.solve(normal + damping * torch.diag(normal.diagonal() + 1e-9), right)
            tried = _moved(now, change)
            new_moving, new_value = cost(tried)
            if new_value < value:
                done = float(change.abs().max()) < 1e-3
                now, moving, value, damping = tried, new_moving, new_value, damping / 3
                if done:
                    break
            else:
                damping *= 10
                if damping > 1e3:
                    break
    return now


def _moved(alignment: Alignment, change: Tensor) -> Alignment:  # (6,) turns, shifts
    """The alignment after a small turn and shift within the cube."""
    x, y, z = change[:3].tolist()
    skew = torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]], dtype=torch.float64)
    return Alignment(alignment.centre + alignment.linear @ change[3:], alignment.linear @ torch.linalg.matrix_exp(skew))
