"""Random smooth multiplicative bias field from a coarse grid."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from monai.config import KeysCollection
from torch import Tensor

from medsynth_ext import ops
from medsynth_ext.transforms._random_image import RandImageTransform, RandImageTransformd

__all__ = ["RandSmoothBiasField", "RandSmoothBiasFieldd"]


class RandSmoothBiasField(RandImageTransform):
    """Multiply an image by ``exp(b)``, b linear between Gaussian values at coarse nodes (Billot et al., 2023).

    MONAI's ``RandBiasField`` uses polynomials instead, which reach their extremes in the corners.

    Args:
        prob: probability of a field.
        std: the standard deviation of b at the nodes is uniform in 0 to this.
        nodes: number of nodes along the longest axis; the others have as many as their length asks for, at least 2.

    Raises:
        ValueError: for a negative ``std`` or fewer than 2 nodes.
    """

    def __init__(self, prob: float = 0.95, *, std: float = 0.7, nodes: int = 4) -> None:
        super().__init__(prob)
        if std < 0:
            raise ValueError(f"std must not be negative, got {std}")
        if nodes < 2:
            raise ValueError(f"nodes must be at least 2, got {nodes}")
        self.std = std
        self.nodes = nodes
        self.grid = torch.zeros(0)  # (1, 1, *nodes)

    def _draw(self, size: Sequence[int]) -> None:
        shape = [max(2, math.ceil(self.nodes * n / max(size))) for n in size]
        values = self.R.standard_normal((1, 1, *shape)) * self.R.uniform(0, self.std)
        self.grid = torch.from_numpy(values.astype(np.float32))

    def _apply(self, image: Tensor) -> Tensor:
        field = ops.resample(self.grid.to(image.device), image.shape[1:], rule="corner")[0].exp_()
        return image * field.to(image.dtype if image.is_floating_point() else field.dtype)


class RandSmoothBiasFieldd(RandImageTransformd):
    """Dictionary version of :class:`RandSmoothBiasField`: all keys share one field.

    Args:
        keys: images of one spatial size; not label maps.
        allow_missing_keys: leave out keys that are missing.
        prob: see :class:`RandSmoothBiasField`, as all other arguments.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.95,
        *,
        std: float = 0.7,
        nodes: int = 4,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, RandSmoothBiasField(prob, std=std, nodes=nodes), allow_missing_keys)
