"""The whole way of the landmarks from the reference to a new volume."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from medsynth_ext import ops
from medsynth_ext.methods.oneshot.alignment import (
    Alignment,
    axes_candidates,
    best_candidate,
    correlation,
    match_intensity,
    rigid_refinement,
)
from medsynth_ext.methods.oneshot.cubes import rotation_degrees
from medsynth_ext.methods.oneshot.demons import log_demons
from medsynth_ext.methods.oneshot.localisation import Localisation, Localiser
from medsynth_ext.methods.oneshot.reference import Reference

__all__ = ["LandmarkTransfer", "RegistrationSettings", "Transfer"]


@dataclass(frozen=True)
class RegistrationSettings:
    """How the found structure is registered with the reference.

    Args:
        use_axes: turn by the principal axes; off for comparisons.
        max_rotation_deg: leave out candidates that turn further; ``None`` for none.
        least_gap: see ``axes_candidates``.
        focus_mm: how far around the structure voxels count for the rigid step and the correlations.
        wide_focus_mm: the same for the choice between the candidates, which tells a structure from its mirror image.
        rigid_sigmas: see ``rigid_refinement``; empty for no rigid step.
        rigid_iterations: likewise.
        demons_iterations: see ``log_demons``; empty for no demons.
        max_step: likewise.
        fluid_sigma: likewise.
        diffusion_sigma: likewise.
        least_correlation: a result below it is flagged.
        least_jacobian: likewise.
    """

    use_axes: bool = True
    max_rotation_deg: float | None = None
    least_gap: float = 0.1
    focus_mm: float = 3.0
    wide_focus_mm: float = 8.0
    rigid_sigmas: tuple[float, ...] = (2.0, 1.0)
    rigid_iterations: int = 10
    demons_iterations: tuple[int, ...] = (30, 20, 10)
    max_step: float = 0.5
    fluid_sigma: float = 0.0
    diffusion_sigma: float = 1.0
    least_correlation: float = 0.5
    least_jacobian: float = 0.0

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> RegistrationSettings:
        """From the entries of a config; lists become tuples.

        Raises:
            ValueError: for an entry of another name.
        """
        names = {f.name for f in fields(cls)}
        unknown = sorted(set(options) - names)
        if unknown:
            raise ValueError(f"the registration has no option {unknown[0]!r}; it has {', '.join(sorted(names))}")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
        return cls(**values)


@dataclass(frozen=True)
class Transfer:
    """Landmarks in a target and how they came there; positions are voxels of the target.

    Args:
        landmarks: (N, 3), NaN when nothing was found.
        rigid_landmarks: (N, 3) before the demons.
        localisation: the search.
        alignment: the target in the reference's frame.
        rotation_deg: of the principal axes' rotation.
        velocity: (1, 3, S, S, S) of the demons in the cube.
        patch: (S, S, S) the aligned target.
        correlation: with the reference after the centring, the turn, the rigid step and the demons.
        least_jacobian: of the deformation.
        flags: what speaks against the result; empty when nothing does.
    """

    landmarks: Tensor
    rigid_landmarks: Tensor
    localisation: Localisation
    alignment: Alignment
    rotation_deg: float
    velocity: Tensor = field(repr=False)
    patch: Tensor = field(repr=False)
    correlation: tuple[float, float, float, float]
    least_jacobian: float
    flags: tuple[str, ...]

    def to_reference(self, places: Tensor, size: int) -> Tensor:  # (N, 3) voxels of the target to those of the cube
        """The way back; exact up to the integration."""
        cube = (places.double() - self.alignment.centre) @ self.alignment.linear + (size - 1) / 2
        return _moved(cube, ops.integrate_svf(self.velocity, inverse=True))


class LandmarkTransfer:
    """Localise, turn, refine, deform, carry the landmarks over.

    Args:
        reference: the annotated structure.
        localiser: finds it in a volume.
        settings: of the registration.
    """

    def __init__(
        self,
        reference: Reference,
        localiser: Localiser | Callable[[Tensor], Localisation],
        settings: RegistrationSettings | None = None,
    ) -> None:
        self.reference = reference
        self.localiser = localiser
        self.settings = RegistrationSettings() if settings is None else settings
        self.weight = reference.weight(self.settings.focus_mm)
        self.wide_weight = reference.weight(self.settings.wide_focus_mm)
        self.covariance = reference.covariance()

    @torch.no_grad()
    def __call__(self, volume: Tensor) -> Transfer:  # (1, 1, X, Y, Z) in [0, 1]
        """The landmarks of one volume."""
        return self.register(volume, self.localiser(volume))

    @torch.no_grad()
    def register(self, volume: Tensor, found: Localisation) -> Transfer:
        """Stages that follow the localisation."""
        reference, s = self.reference, self.settings
        if not bool(found.centre.isfinite().all()):
            return self._nothing(volume, found)
        fixed, weight = reference.image[None, None].to(volume), self.weight.to(volume)
        eye = torch.eye(3, dtype=torch.float64)
        centred = correlation(Alignment(found.centre, eye).cube(volume, reference.size)[0, 0], fixed[0, 0], weight)
        candidates = axes_candidates(self.covariance, found.covariance, least_gap=s.least_gap) if s.use_axes else [eye]
        turned, alignment = best_candidate(
            volume,
            found.centre,
            candidates,
            fixed,
            self.wide_weight.to(volume),
            refine=lambda a: rigid_refinement(
                volume, a, fixed, weight, sigmas=s.rigid_sigmas, iterations=s.rigid_iterations
            ),
            max_rotation_deg=s.max_rotation_deg,
        )
        by_axes = correlation(turned.cube(volume, reference.size)[0, 0], fixed[0, 0], weight)
        patch = alignment.cube(volume, reference.size)
        rigid = correlation(patch[0, 0], fixed[0, 0], weight)
        velocity = self._deform(fixed, patch, weight)
        flow = ops.integrate_svf(velocity)
        after = correlation(ops.warp(patch, flow)[0, 0], fixed[0, 0], weight)
        jacobian = float(ops.jacobian_determinant(flow).min())
        landmarks = alignment.to_target(_moved(reference.landmarks, flow), reference.size)
        return Transfer(
            landmarks,
            alignment.to_target(reference.landmarks, reference.size),
            found,
            alignment,
            rotation_degrees(turned.linear),
            velocity,
            patch[0, 0],
            (centred, by_axes, rigid, after),
            jacobian,
            self._flags(volume, found, landmarks, after, jacobian),
        )

    def _deform(self, fixed: Tensor, patch: Tensor, weight: Tensor) -> Tensor:
        s = self.settings
        if not s.demons_iterations:
            return patch.new_zeros((1, 3, *patch.shape[2:]))
        moving = match_intensity(patch[0, 0], fixed[0, 0], weight)[None, None]
        return log_demons(
            fixed,
            moving,
            iterations=s.demons_iterations,
            max_step=s.max_step,
            fluid_sigma=s.fluid_sigma,
            diffusion_sigma=s.diffusion_sigma,
        )

    def _flags(
        self, volume: Tensor, found: Localisation, landmarks: Tensor, after: float, jacobian: float
    ) -> tuple[str, ...]:
        s, last = self.settings, torch.tensor(volume.shape[2:], dtype=torch.float64) - 1
        least = getattr(self.localiser, "least_mass", 0.0)
        checks = {
            "not_converged": not found.converged,
            "little_found": found.mass_ratio < least,
            "low_correlation": after < s.least_correlation,
            "folded": jacobian <= s.least_jacobian,
            "outside": bool(((landmarks < 0) | (landmarks > last)).any()),
        }
        return tuple(name for name, bad in checks.items() if bad)

    def _nothing(self, volume: Tensor, found: Localisation) -> Transfer:
        size = self.reference.size
        nowhere = torch.full_like(self.reference.landmarks, torch.nan)
        zeros = volume.new_zeros((1, 3, size, size, size))
        alignment = Alignment(found.centre, torch.eye(3, dtype=torch.float64))
        scores = (0.0, 0.0, 0.0, 0.0)
        flags = ("not_found",)
        return Transfer(nowhere, nowhere, found, alignment, 0.0, zeros, zeros[0, 0], scores, 1.0, flags)


def _moved(places: Tensor, flow: Tensor) -> Tensor:  # (N, 3) float64
    """Places moved along a displacement in voxels."""
    moved = ops.warp_points(places[None].to(flow.device), flow.double(), direction="forward")
    assert isinstance(moved, Tensor)
    return moved[0].cpu()
