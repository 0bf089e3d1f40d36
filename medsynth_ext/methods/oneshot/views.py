"""Three stacks of slices of a volume through a slice network, and the joint probability of what it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor

from medsynth_ext import ops

__all__ = ["FUSIONS", "JOINT_THRESHOLD", "ThreeViewInferer", "fuse", "slice_stacks", "stack_logits", "to_volume"]

FUSIONS = ("product", "mean", "x", "y", "z")
JOINT_THRESHOLD = 0.5**3  # of the product: where the geometric mean of the three views is one half


def slice_stacks(volume: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The stacks (B, K, I, J), (B, J, K, I), (B, I, J, K) of volumes (B, I, J, K); the layout is cyclic."""
    return volume.permute(0, 3, 1, 2), volume.permute(0, 2, 3, 1), volume


def to_volume(z: Tensor, y: Tensor, x: Tensor) -> Tensor:  # (B, 3, I, J, K)
    """The stacks as three channels of one volume."""
    return torch.stack([z.permute(0, 2, 3, 1), y.permute(0, 3, 1, 2), x], dim=1)


def stack_logits(
    network: Callable[..., Tensor],
    volume: Tensor,  # (B, I, J, K)
    *,
    slices_at_once: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The network's logits of every slice of the three stacks, in the stacks' own layout."""
    results = []
    for stack in slice_stacks(volume):
        slices = stack.reshape(-1, 1, *stack.shape[2:])
        parts = [network(part) for part in slices.split(slices_at_once)]
        results.append(torch.cat(parts)[:, 0].float().reshape(stack.shape))
    return results[0], results[1], results[2]


def fuse(z: Tensor, y: Tensor, x: Tensor, fusion: str = "product") -> Tensor:  # logits to (B, I, J, K)
    """One probability a voxel: the product of the three views, their mean, or one view alone."""
    if fusion == "product":
        return ops.ortho_slice_product(*(torch.nn.functional.logsigmoid(v) for v in (z, y, x)), log=True)
    views = to_volume(z, y, x).sigmoid()
    return views.mean(1) if fusion == "mean" else views[:, "zyx".index(fusion)]


class ThreeViewInferer(Inferer):
    """Runs a slice network over the three stacks of a volume; gives their logits as three channels.

    Args:
        slices_at_once: slices per call of the network.
    """

    def __init__(self, *, slices_at_once: int = 64) -> None:
        super().__init__()
        self.slices_at_once = slices_at_once

    def __call__(  # (B, 1, I, J, K) to (B, 3, I, J, K)
        self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any
    ) -> Tensor:
        volume = inputs.as_subclass(torch.Tensor)[:, 0]
        return to_volume(*stack_logits(network, volume, slices_at_once=self.slices_at_once))
