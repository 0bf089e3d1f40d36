"""Random turns, sizes, shifts and exposures of radiographs and their landmarks, on the device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Draw", "RadiographAugmentation", "transform_points", "warp_image", "z_score"]


def z_score(
    image: Tensor,  # (B, C, H, W)
) -> Tensor:
    """Mean 0 and standard deviation 1 per image; a constant image becomes 0."""
    mean = image.mean((1, 2, 3), keepdim=True)
    std = image.std((1, 2, 3), keepdim=True, correction=0)
    return (image - mean) / torch.where(std > 1e-6, std, torch.ones_like(std))


def transform_points(
    points: Tensor,  # (B, N, 2) normalised (y, x)
    matrix: Tensor,  # (B, 2, 3)
) -> Tensor:  # (B, N, 2)
    """Where points go."""
    return points @ matrix[:, :, :2].transpose(1, 2) + matrix[:, None, :, 2]


class Draw(NamedTuple):
    """The random numbers of a batch."""

    matrix: Tensor  # (B, 2, 3) of normalised (y, x): from the image to the augmented one
    gamma: Tensor  # (B,)
    contrast: Tensor  # (B,)


class RadiographAugmentation:
    """Rotation, scaling, shift, mirroring where pairs are declared, gamma and contrast.

    Args:
        angle_deg: largest rotation.
        scale: range of the scale.
        shift: largest shift as a share of the width.
        gamma: range of the exponent; drawn evenly on a logarithmic scale.
        contrast: largest change of the contrast as a share.
        pairs: numbers of the landmarks that change names when the image is mirrored left to right; without pairs no
            image is mirrored.
        enabled: with ``False`` images and points are only normalised.
    """

    def __init__(
        self,
        *,
        angle_deg: float = 10.0,
        scale: Sequence[float] = (0.9, 1.1),
        shift: float = 0.05,
        gamma: Sequence[float] = (0.7, 1.4),
        contrast: float = 0.2,
        pairs: Sequence[Sequence[int]] = (),
        enabled: bool = True,
    ) -> None:
        self.angle_deg = angle_deg
        self.scale = tuple(scale)
        self.shift = shift
        self.gamma = tuple(gamma)
        self.contrast = contrast
        self.pairs = [tuple(pair) for pair in pairs]
        self.enabled = enabled

    def draw(self, states: Sequence[np.random.RandomState], device: torch.device) -> Draw:
        """The random numbers of a batch, a state per sample."""
        matrices, gammas, contrasts = [], [], []
        for state in states:
            angle = math.radians(self.angle_deg) * state.uniform(-1, 1)
            size = state.uniform(self.scale[0], self.scale[1])
            mirror = -1.0 if self.pairs and state.uniform() < 0.5 else 1.0
            shift = 2 * self.shift * state.uniform(-1, 1, 2)  # the width is 2 in normalised coordinates
            c, s = size * math.cos(angle), size * math.sin(angle)
            matrices.append([[c, -s * mirror, shift[0]], [s, c * mirror, shift[1]]])
            gammas.append(math.exp(state.uniform(*np.log(self.gamma))))
            contrasts.append(1 + self.contrast * state.uniform(-1, 1))
        return Draw(*(torch.tensor(v, dtype=torch.float32, device=device) for v in (matrices, gammas, contrasts)))

    def __call__(
        self,
        image: Tensor,  # (B, 1, H, W) in [0, 1], H = W
        points: Tensor | None,  # (B, N, 2) normalised, NaN where not visible
        states: Sequence[np.random.RandomState],
    ) -> tuple[Tensor, Tensor | None]:
        """Augmented image with mean 0 and deviation 1, and its points."""
        if not self.enabled:
            return z_score(image), points
        draw = self.draw(states, image.device)
        image = z_score(self.expose(warp_image(image, draw.matrix), draw))
        return image, None if points is None else self.move(points, draw.matrix)

    def expose(self, image: Tensor, draw: Draw) -> Tensor:
        """Gamma, then contrast about the mean."""
        image = image.clamp(0, 1) ** draw.gamma[:, None, None, None]
        mean = image.mean((1, 2, 3), keepdim=True)
        return mean + (image - mean) * draw.contrast[:, None, None, None]

    def move(self, points: Tensor, matrix: Tensor) -> Tensor:
        """Where points go; mirrored ones change names, and those that leave the image are not visible any more."""
        moved = transform_points(points, matrix)
        order = list(range(points.shape[1]))
        for a, b in self.pairs:
            order[a], order[b] = b, a
        mirrored = torch.linalg.det(matrix[:, :, :2]) < 0
        moved = torch.where(mirrored[:, None, None], moved[:, order], moved)
        return torch.where((moved.abs() > 1).any(-1, keepdim=True), torch.nan, moved)


def warp_image(
    image: Tensor,  # (B, C, H, W), H = W
    matrix: Tensor,  # (B, 2, 3) of normalised (y, x)
) -> Tensor:
    """The image under a transform of its points: 0 outside, linear between pixels."""
    inverse = torch.linalg.inv(matrix[:, :, :2].double())
    back = torch.cat([inverse, -(inverse @ matrix[:, :, 2:].double())], 2)
    xy = back[:, [1, 0]][:, :, [1, 0, 2]].to(image.dtype)  # affine_grid has (x, y)
    return F.grid_sample(image, F.affine_grid(xy, list(image.shape), align_corners=False), align_corners=False)
