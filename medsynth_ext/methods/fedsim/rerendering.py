"""Real patients as another site's scanner would show them: the out-of-distribution test."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medsynth_ext.methods.fedsim.generation import render_volume

__all__ = ["rerender"]


@torch.no_grad()
def rerender(
    generator: nn.Module,
    material: Tensor,  # (M, 1, c, c, c)
    hearts: Tensor,  # (M, 1, N, N, N)
    *,
    context: int = 0,
    slices_at_once: int = 16,
) -> Tensor:  # (M, 1, N, N, N)
    """Volumes of the same patients from their reduced CT and their true labels, by a site's generator.

    Args:
        generator: of the other site.
        material: the patients' CT, averaged to the coarse grid.
        hearts: their labels, 0 or 1.
        context: as the generator was trained.
        slices_at_once: slices per call of the generator.
    """
    generator.eval()
    pairs = zip(material.split(1), hearts.split(1), strict=True)
    return torch.cat([render_volume(generator, c, h, context=context, slices_at_once=slices_at_once) for c, h in pairs])
