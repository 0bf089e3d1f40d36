"""Where the structure is in a new volume: the iterated centre of mass of the joint probability."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from medsynth_ext import ops
from medsynth_ext.methods.oneshot.cubes import sample_cube
from medsynth_ext.methods.oneshot.views import FUSIONS, fuse, stack_logits

__all__ = ["Localisation", "Localiser"]


@dataclass(frozen=True)
class Localisation:
    """What was found.

    Args:
        centre: (3,) voxels, NaN when nothing was found.
        covariance: (3, 3) mm^2 of the joint probability.
        probability: (S, S, S), of the cube about ``cube_centre``.
        cube_centre: (3,) voxels.
        mass_ratio: volume of the joint probability over that of the reference's mask.
        iterations: of the search that counts.
        converged: whether the centre stood still before the last iteration.
        restarts: 0, or how many starting points of the grid were tried.
        path: (iterations + 1, 3) the centres, from the starting point on.
    """

    centre: Tensor
    covariance: Tensor
    probability: Tensor = field(repr=False)
    cube_centre: Tensor
    mass_ratio: float
    iterations: int
    converged: bool
    restarts: int
    path: Tensor = field(repr=False)


class Localiser:
    """Algorithm 2 of Wang et al.: crop, three stacks of slices, joint probability, centre of mass; until it stands.

    Args:
        network: gives a logit per pixel of slices (B, 1, H, W).
        size: edge of the cube in voxels.
        spacing_mm: of the volumes.
        reference_volume_mm3: of the structure in the reference.
        eps_mm: the centre stands when it moves less than this.
        max_iterations: cap.
        least_mass: least ``mass_ratio`` of a success; below it, and at the cap, a grid of starting points is tried.
        coarse_factor: the first pass sees the whole volume with voxels this many times as large; ``None`` starts at the
            volume's centre.
        slices_at_once: slices per call of the network.
        restart: whether to try the grid at all.
        fusion: how the three views are put together; anything but ``product`` is for comparisons.
    """

    def __init__(
        self,
        network: Callable[..., Tensor],
        *,
        size: int,
        spacing_mm: float,
        reference_volume_mm3: float,
        eps_mm: float = 1.0,
        max_iterations: int = 10,
        least_mass: float = 0.01,
        coarse_factor: float | None = 2.0,
        slices_at_once: int = 64,
        restart: bool = True,
        fusion: str = "product",
    ) -> None:
        if fusion not in FUSIONS:
            raise ValueError(f"fusion must be one of {', '.join(FUSIONS)}, got {fusion!r}")
        if not eps_mm > 0 or max_iterations < 1:
            raise ValueError(f"eps_mm must be positive and max_iterations at least 1, got {eps_mm}, {max_iterations}")
        self.network = network
        self.size = size
        self.spacing_mm = spacing_mm
        self.reference_volume_mm3 = reference_volume_mm3
        self.eps_mm = eps_mm
        self.max_iterations = max_iterations
        self.least_mass = least_mass
        self.coarse_factor = coarse_factor
        self.slices_at_once = slices_at_once
        self.restart = restart
        self.fusion = fusion

    @torch.no_grad()
    def __call__(self, volume: Tensor) -> Localisation:  # (1, 1, X, Y, Z)
        """Find the structure; every draw-back is in the result, nothing is raised."""
        found = self.search(volume, self.first_pass(volume))
        if not self.restart or (found.converged and found.mass_ratio >= self.least_mass):
            return found
        starts = self._grid(volume)
        masses = [self._look(volume, start)[0] for start in starts]
        best = self.search(volume, starts[masses.index(max(masses))], restarts=len(starts))
        return best if (best.converged, best.mass_ratio) > (found.converged, found.mass_ratio) else found

    def first_pass(self, volume: Tensor) -> Tensor:  # (3,) voxels
        """Where the joint probability of the whole volume, smoothed to the structure's size, is largest."""
        shape = torch.tensor(volume.shape[2:], dtype=torch.float64)
        if self.coarse_factor is None:
            return (shape - 1) / 2
        size = [max(1, round(n / self.coarse_factor)) for n in volume.shape[2:]]
        sigma = 0.25 * self.coarse_factor if self.coarse_factor > 1 else 0.0
        coarse = ops.resample(ops.gaussian_blur(volume, sigma), size, rule="half_pixel")
        p = self._joint(coarse[0])
        radius = (self.reference_volume_mm3 * 0.75 / torch.pi) ** (1 / 3) / (self.spacing_mm * self.coarse_factor)
        smooth = ops.gaussian_blur(p[:, None], max(radius, 0.5))
        place, _, valid = ops.heatmap_peak(smooth, refine="parabola")
        scale = shape / torch.tensor(size, dtype=torch.float64)
        if not bool(valid.all()):
            return (shape - 1) / 2
        return (place[0, 0].double().cpu() + 0.5) * scale - 0.5

    def search(self, volume: Tensor, start: Tensor, *, restarts: int = 0) -> Localisation:
        """Iterate from a starting point in voxels."""
        path = [start.double()]
        converged, mass, cov = False, 0.0, torch.full((3, 3), torch.nan, dtype=torch.float64)
        p = volume.new_zeros((self.size,) * 3)
        for _ in range(self.max_iterations):
            mass, offset, cov, p = self._look(volume, path[-1])
            if not bool(offset.isfinite().all()):
                break
            path.append(path[-1] + offset)
            if float(offset.norm()) * self.spacing_mm < self.eps_mm:
                converged = True
                break
        seen = path[-2] if len(path) > 1 else path[-1]
        centre = path[-1] if mass > 0 else torch.full((3,), torch.nan, dtype=torch.float64)
        ratio = mass / self.reference_volume_mm3
        return Localisation(centre, cov, p, seen, ratio, max(len(path) - 1, 1), converged, restarts, torch.stack(path))

    def _joint(self, volume: Tensor) -> Tensor:  # (1, I, J, K) to (1, I, J, K)
        logits = stack_logits(self.network, volume, slices_at_once=self.slices_at_once)
        return fuse(*logits, fusion=self.fusion)

    def _look(self, volume: Tensor, centre: Tensor) -> tuple[float, Tensor, Tensor, Tensor]:
        """Mass in mm^3, offset of the centre of mass in voxels, covariance in mm^2, joint probability."""
        cube = sample_cube(volume, centre, torch.eye(3, dtype=torch.float64), self.size)
        p = self._joint(cube[0])
        mass, place, cov, _, valid = ops.heatmap_moments(p, self.spacing_mm)
        offset = place[0].double().cpu() / self.spacing_mm - (self.size - 1) / 2
        return float(mass) if bool(valid) else 0.0, offset, cov[0].double().cpu(), p[0]

    def _grid(self, volume: Tensor) -> list[Tensor]:
        """Starting points half a cube apart."""
        axes = []
        for n in volume.shape[2:]:
            count = max(1, -(-n // (self.size // 2)) - 1)
            axes.append([(i + 0.5) * n / count - 0.5 for i in range(count)])
        return [torch.tensor(point, dtype=torch.float64) for point in itertools.product(*axes)]
