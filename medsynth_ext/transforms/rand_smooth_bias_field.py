"""Random smooth multiplicative bias field from a coarse grid."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import TransformBackends, convert_to_tensor
from torch import Tensor

from medsynth_ext import ops

__all__ = ["RandSmoothBiasField", "RandSmoothBiasFieldd"]


class RandSmoothBiasField(RandomizableTransform):
    """Multiply an image by ``exp(b)``, b linear between Gaussian values at coarse nodes (Billot et al., 2023).

    MONAI's ``RandBiasField`` uses polynomials instead, which reach their extremes in the corners.

    Args:
        prob: probability of a field.
        std: the standard deviation of b at the nodes is uniform in 0 to this.
        nodes: number of nodes along the longest axis; the others have as many as their length asks for, at least 2.

    Raises:
        ValueError: for a negative ``std`` or fewer than 2 nodes.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012

    def __init__(self, prob: float = 0.95, *, std: float = 0.7, nodes: int = 4) -> None:
        super().__init__(prob)
        if std < 0:
            raise ValueError(f"std must not be negative, got {std}")
        if nodes < 2:
            raise ValueError(f"nodes must be at least 2, got {nodes}")
        self.std = std
        self.nodes = nodes
        self.grid: Tensor | None = None

    def randomize(self, size: Sequence[int]) -> None:
        """Draw whether to apply a field, and its values at the nodes."""
        super().randomize(None)
        if not self._do_transform:
            return
        shape = [max(2, math.ceil(self.nodes * n / max(size))) for n in size]
        values = self.R.standard_normal((1, 1, *shape)) * self.R.uniform(0, self.std)
        self.grid = torch.from_numpy(values.astype(np.float32))

    def __call__(self, image: Tensor, *, randomize: bool = True) -> Tensor:  # (C, *S) both
        if image.ndim not in (3, 4):
            raise ValueError(f"image must be (C, H, W) or (C, D, H, W), got {tuple(image.shape)}")
        if randomize:
            self.randomize(image.shape[1:])
        tensor = convert_to_tensor(image, track_meta=True)
        if not self._do_transform:
            return tensor
        if self.grid is None:
            raise RuntimeError("call randomize() first, or call with randomize=True")
        field = ops.resample(self.grid.to(tensor.device), tensor.shape[1:], rule="corner")
        return tensor * field[0].exp_()


class RandSmoothBiasFieldd(MapTransform, RandomizableTransform):
    """Dictionary version of :class:`RandSmoothBiasField`: all keys share one field.

    Args:
        keys: images of one spatial size; not label maps.
        allow_missing_keys: leave out keys that are missing.
        prob: see :class:`RandSmoothBiasField`, as all other arguments.
    """

    backend = RandSmoothBiasField.backend

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.95,
        *,
        std: float = 0.7,
        nodes: int = 4,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.transform = RandSmoothBiasField(prob, std=std, nodes=nodes)

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandSmoothBiasFieldd:
        self.transform.set_random_state(seed, state)
        super().set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        result = dict(data)
        drawn = False
        for key in self.key_iterator(result):
            if not drawn:
                self.transform.randomize(result[key].shape[1:])
                drawn = True
            result[key] = self.transform(result[key], randomize=False)
        return result
