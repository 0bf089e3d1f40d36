"""Points of an image, and how far they scatter when the image is moved a little."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor

from medsynth_ext.methods.dag.augmentation import transform_points, warp_image
from medsynth_ext.methods.dag.coordinates import to_index, to_normalised

__all__ = ["LandmarkInferer"]

_TO_DEVIATION = 1.4826  # median absolute deviation of a Gaussian to its standard deviation


class LandmarkInferer(Inferer):
    """Runs the network on the image, and on copies that are shifted in all directions.

    With copies, the points are the medians over image and copies, each moved back, and a third coordinate is the
    spread: the robust standard deviation, root of the sum over both axes, in pixels.

    Args:
        views: number of shifted copies; 0 for the image only and no spread.
        shift: length of the shifts as a share of the width.
    """

    def __init__(self, *, views: int = 0, shift: float = 0.02) -> None:
        super().__init__()
        if views < 0 or not 0 < shift < 0.5:
            raise ValueError(f"views must not be negative and shift in (0, 0.5), got {views} and {shift}")
        self.views = views
        self.shift = shift

    def __call__(
        self,
        inputs: Tensor,  # (B, 1, H, W)
        network: Callable[..., Any],
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:  # (B, N, 2) or (B, N, 3)
        image = inputs.as_subclass(Tensor)
        found = [network(image, *args, **kwargs)]
        if self.views == 0:
            return found[0]
        size = image.shape[2:]
        darkest = image.amin((1, 2, 3), keepdim=True)  # 0 before normalisation: what padding looks like
        for k in range(self.views):
            turn = 2 * math.pi * k / self.views
            step = torch.tensor([math.sin(turn), math.cos(turn)]) * 2 * self.shift
            matrix = torch.cat([torch.eye(2), step[:, None]], 1).to(image).expand(len(image), 2, 3)
            points = network(warp_image(image - darkest, matrix) + darkest, *args, **kwargs)
            back = matrix.clone().float()
            back[:, :, 2] *= -1
            found.append(to_index(transform_points(to_normalised(points, size), back.to(points)), size))
        stack = torch.stack(found)
        middle = stack.median(0).values
        spread = _TO_DEVIATION * (stack - middle).abs().median(0).values
        return torch.cat([middle, spread.norm(dim=-1, keepdim=True)], -1)
