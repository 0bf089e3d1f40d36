"""Random mirroring, turns and colours of frames with points, on the device of the batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medsynth_ext.transforms.place_points import without_outside

__all__ = ["PointFrameAugmentation"]

_LUMA = (0.299, 0.587, 0.114)
_TO_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


class PointFrameAugmentation:
    """Move pictures and their points alike, then change the colours; targets are drawn from the points afterwards.

    All draws of a sample come from its own state, in a fixed order whatever is switched on. MONAI's transforms work on
    one sample at a time and leave points to be moved by hand; here the batch is resampled once.

    Args:
        flip_prob: probability of mirroring, for each axis.
        rotate_prob: probability of a turn about the middle.
        rotate_deg: largest turn.
        colour_prob: probability of a change of brightness, contrast, saturation and hue.
        contrast_prob: probability of a further change of brightness and contrast alone.
        strength: largest relative change of each, and twice the largest turn of the hue as a share of the circle.
    """

    def __init__(
        self,
        *,
        flip_prob: float = 0.5,
        rotate_prob: float = 1.0,
        rotate_deg: float = 40.0,
        colour_prob: float = 0.5,
        contrast_prob: float = 0.5,
        strength: float = 0.2,
    ) -> None:
        probabilities = (flip_prob, rotate_prob, colour_prob, contrast_prob)
        if not all(0 <= p <= 1 for p in probabilities):
            raise ValueError(f"probabilities must be in [0, 1], got {probabilities}")
        if not 0 <= strength < 1:
            raise ValueError(f"strength must be in [0, 1), got {strength}")
        self.flip_prob = flip_prob
        self.rotate_prob = rotate_prob
        self.rotate_deg = rotate_deg
        self.colour_prob = colour_prob
        self.contrast_prob = contrast_prob
        self.strength = strength

    def __call__(
        self,
        image: Tensor,  # (B, 3, H, W) in [0, 1]
        points: Tensor,  # (B, K, 2) as (y, x), NaN where there is none
        states: Sequence[np.random.RandomState],
    ) -> tuple[Tensor, Tensor]:
        """The changed batch; points that leave the picture become NaN."""
        if len(states) != len(image) or len(points) != len(image):
            raise ValueError(f"points and states must be {len(image)}, one a picture, got {len(points)}, {len(states)}")
        image = image.as_subclass(torch.Tensor)
        moves, colours, shifts = (
            np.stack(parts) for parts in zip(*(self._draw(state) for state in states), strict=True)
        )
        moved, placed = _move(image, points, torch.from_numpy(moves))
        mean = (moved * moved.new_tensor(_LUMA)[:, None, None]).sum(1).mean((1, 2))  # grey level of each picture
        matrix = torch.from_numpy(colours).to(moved)
        shift = torch.from_numpy(shifts).to(moved) * mean
        changed = torch.einsum("bij,bjhw->bihw", matrix, moved) + shift[:, None, None, None]
        return changed.clamp_(0, 1), placed

    def _draw(self, state: np.random.RandomState) -> tuple[np.ndarray, np.ndarray, float]:
        """The move (2, 2) from new to old places, the colour matrix (3, 3), and the share of the grey level added."""
        chance, size = state.uniform(size=5), state.uniform(-1, 1, size=7)
        angle = math.radians(self.rotate_deg) * size[0] * (chance[2] < self.rotate_prob)
        c, s = math.cos(angle), math.sin(angle)
        mirror = np.where(chance[:2] < self.flip_prob, -1.0, 1.0)
        move = np.array([[c, -s], [s, c]]) * mirror
        jitter = (
            self.strength * size[1:] * np.repeat([chance[3] < self.colour_prob, chance[4] < self.contrast_prob], [4, 2])
        )
        grey = np.tile(np.array(_LUMA), (3, 1))
        turn = math.pi * jitter[3]
        hue = np.array([[1, 0, 0], [0, math.cos(turn), -math.sin(turn)], [0, math.sin(turn), math.cos(turn)]])
        to_yiq = np.array(_TO_YIQ)
        colour = np.linalg.inv(to_yiq) @ hue @ to_yiq @ ((1 + jitter[2]) * np.eye(3) - jitter[2] * grey)
        bright = (1 + jitter[0]) * (1 + jitter[4])
        contrast = (1 + jitter[1]) * (1 + jitter[5])
        return move, bright * contrast * colour, float(bright * (1 - contrast))


def _move(image: Tensor, points: Tensor, moves: Tensor) -> tuple[Tensor, Tensor]:
    """Resample about the middle: ``old = moves @ new`` in pixels ``(y, x)``; zeros come in from outside."""
    rows, columns = image.shape[2:]
    y = torch.arange(rows, device=image.device) - (rows - 1) / 2
    x = torch.arange(columns, device=image.device) - (columns - 1) / 2
    m = moves.to(image)[:, :, :, None, None]
    old_y = m[:, 0, 0] * y[:, None] + m[:, 0, 1] * x
    old_x = m[:, 1, 0] * y[:, None] + m[:, 1, 1] * x
    grid = torch.stack([old_x * (2 / columns), old_y * (2 / rows)], -1)
    moved = F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    middle = points.new_tensor([rows - 1, columns - 1]) / 2
    back = torch.linalg.inv(moves).to(points)
    placed = torch.einsum("bij,bkj->bki", back, points - middle) + middle
    return moved, without_outside(placed, (rows, columns))
