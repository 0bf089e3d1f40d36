"""The two reconstruction losses of the shape and the material."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["iou_loss", "material_loss"]


def iou_loss(heart: Tensor, target: Tensor) -> Tensor:  # (B, 1, X, Y, Z) both -> (B,)
    """``1 - sum(A B) / sum(A + B - A B)`` per sample.

    >>> import torch
    >>> a, b = torch.tensor([1.0, 1.0, 0.0]).view(1, 1, 3, 1, 1), torch.tensor([0.0, 1.0, 0.0]).view(1, 1, 3, 1, 1)
    >>> iou_loss(a, b).tolist()
    [0.5]
    """
    both = (heart * target).flatten(1).sum(1)
    either = (heart + target).flatten(1).sum(1) - both
    return 1 - both / either.clamp_min(1)


def material_loss(coarse: Tensor, target: Tensor, distance: nn.Module) -> tuple[Tensor, Tensor]:
    """Mean squared difference, and the feature distance of all axial slices as one batch.

    Args:
        coarse: (B, 1, c, c, c) simulated.
        target: (B, 1, c, c, c) real.
        distance: of (slices, 1, c, c) images.
    """
    slices, wanted = (v.movedim(4, 1).flatten(0, 1) for v in (coarse, target))  # (B c, 1, c, c)
    return (coarse - target).square().mean(), distance(slices, wanted)
