"""Simulation of thick slices and wide spacing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.config import KeysCollection
from torch import Tensor

from medsynth_ext import ops
from medsynth_ext.transforms._random_image import RandImageTransform, RandImageTransformd

__all__ = ["RandLowResolution", "RandLowResolutiond"]


class RandLowResolution(RandImageTransform):
    """Blur an image as thick slices would, sample it coarsely and bring it back to its grid (Billot et al., 2023).

    Spacing and thickness are in voxels of the image: 1 is its own resolution. One axis becomes coarse (spacing uniform
    in 1 to ``max_spacing``) or, with ``isotropic_prob``, all of them alike (1 to ``max_isotropic``). The thickness is
    uniform in 1 to the spacing; the blur has a sigma of ``0.75 * thickness`` (0.5 where the thickness is 1).

    Args:
        prob: probability of the simulation.
        max_spacing: coarsest spacing of a single axis.
        max_isotropic: coarsest spacing of all axes.
        isotropic_prob: probability that all axes become coarse.
        mode: ``"linear"`` or ``"nearest"`` sampling at the coarse positions; the way back is always linear.

    Raises:
        ValueError: for spacings below 1, a probability outside [0, 1] or another mode.
    """

    def __init__(
        self,
        prob: float = 0.95,
        *,
        max_spacing: float = 8.0,
        max_isotropic: float = 4.0,
        isotropic_prob: float = 0.1,
        mode: str = "linear",
    ) -> None:
        super().__init__(prob)
        if min(max_spacing, max_isotropic) < 1:
            raise ValueError(f"max_spacing and max_isotropic must be at least 1, got {max_spacing} and {max_isotropic}")
        if not 0 <= isotropic_prob <= 1:
            raise ValueError(f"isotropic_prob must be in [0, 1], got {isotropic_prob}")
        if mode not in ("linear", "nearest"):
            raise ValueError(f"mode must be 'linear' or 'nearest', got {mode!r}")
        self.max_spacing = max_spacing
        self.max_isotropic = max_isotropic
        self.isotropic_prob = isotropic_prob
        self.mode = mode
        self.spacing: np.ndarray = np.ones(3)
        self.thickness: np.ndarray = np.ones(3)

    def _draw(self, size: Sequence[int]) -> None:
        dims = len(size)
        if self.R.random() < self.isotropic_prob:
            self.spacing = np.full(dims, self.R.uniform(1, self.max_isotropic))
        else:
            self.spacing = np.ones(dims)
            self.spacing[self.R.randint(dims)] = self.R.uniform(1, self.max_spacing)
        self.thickness = 1 + (self.spacing - 1) * self.R.uniform(0, 1, dims)

    def _apply(self, image: Tensor) -> Tensor:
        values = image if image.is_floating_point() else image.float()
        sigma = np.where(self.thickness > 1, 0.75 * self.thickness, 0.5)
        size = np.array(image.shape[1:])
        low = np.where(self.spacing > 1, np.maximum(1, np.floor(size / self.spacing)), size).astype(np.int64)
        blurred = ops.gaussian_blur(values[None], torch.from_numpy(sigma))
        return ops.simulate_resolution(blurred, torch.from_numpy(low)[None], mode=self.mode)[0]


class RandLowResolutiond(RandImageTransformd):
    """Dictionary version of :class:`RandLowResolution`: all keys share one spacing and thickness.

    Args:
        keys: images of one spatial size; not label maps.
        allow_missing_keys: leave out keys that are missing.
        prob: see :class:`RandLowResolution`, as all other arguments.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.95,
        *,
        max_spacing: float = 8.0,
        max_isotropic: float = 4.0,
        isotropic_prob: float = 0.1,
        mode: str = "linear",
        allow_missing_keys: bool = False,
    ) -> None:
        transform = RandLowResolution(
            prob, max_spacing=max_spacing, max_isotropic=max_isotropic, isotropic_prob=isotropic_prob, mode=mode
        )
        super().__init__(keys, transform, allow_missing_keys)
