"""Probabilities from a network of logits, averaged over mirrored frames where wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor

__all__ = ["ProbabilityInferer"]


class ProbabilityInferer(Inferer):
    """The sigmoid of the network's output; with ``flips`` its mean over the frame and its three mirror images."""

    def __init__(self, *, flips: bool = False) -> None:
        super().__init__()
        self.axes: tuple[tuple[int, ...], ...] = ((), (2,), (3,), (2, 3)) if flips else ((),)

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        maps = [network(inputs.flip(axes), *args, **kwargs).float().sigmoid().flip(axes) for axes in self.axes]
        return torch.stack(maps).mean(0) if len(maps) > 1 else maps[0]
