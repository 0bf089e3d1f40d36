"""Registration of whole volumes without localisation, as the paper's comparison."""

from __future__ import annotations

import torch
from torch import Tensor

from medsynth_ext import ops
from medsynth_ext.methods.oneshot.alignment import match_intensity
from medsynth_ext.methods.oneshot.demons import log_demons
from medsynth_ext.methods.oneshot.transfer import RegistrationSettings

__all__ = ["naive_transfer"]


@torch.no_grad()
def naive_transfer(
    volume: Tensor,  # (1, 1, X, Y, Z) the annotated one
    landmarks: Tensor,  # (N, 3) voxels
    target: Tensor,  # (1, 1, X, Y, Z)
    settings: RegistrationSettings,
) -> Tensor:  # (N, 3) voxels of the target
    """Demons with a level more than in the cube, from centre to centre of the volumes."""
    weight = torch.ones_like(volume[0, 0])
    moving = match_intensity(target[0, 0], volume[0, 0], weight)[None, None]
    iterations = (settings.demons_iterations[0], *settings.demons_iterations)
    velocity = log_demons(
        volume,
        moving,
        iterations=iterations,
        max_step=settings.max_step,
        fluid_sigma=settings.fluid_sigma,
        diffusion_sigma=settings.diffusion_sigma,
    )
    moved = ops.warp_points(landmarks[None], ops.integrate_svf(velocity).double(), direction="forward")
    assert isinstance(moved, Tensor)
    return moved[0]
