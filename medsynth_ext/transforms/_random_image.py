"""What the random image transforms share: the check of the image, the draw, the metadata, and one draw for all keys."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable, RandomizableTransform
from monai.utils import TransformBackends, convert_to_tensor
from torch import Tensor

__all__ = ["OneRandomState", "RandImageTransform", "RandImageTransformd"]

Self = TypeVar("Self", bound="OneRandomState")


class RandImageTransform(RandomizableTransform, ABC):
    """A random transform of one image: ``_draw`` draws its terms for a spatial size, ``_apply`` acts on the values."""

    backend = [TransformBackends.TORCH]  # noqa: RUF012

    def __init__(self, prob: float) -> None:
        super().__init__(prob)
        self._size: tuple[int, ...] | None = None

    @abstractmethod
    def _draw(self, size: Sequence[int]) -> None:
        """Draw the terms for an image of this spatial size."""

    @abstractmethod
    def _apply(self, image: Tensor) -> Tensor:  # (C, *S) both
        """Act on the image on the drawn terms."""

    def randomize(self, size: Sequence[int]) -> None:
        """Draw whether to act, and the terms for an image of this spatial size."""
        super().randomize(None)
        self._size = tuple(size)
        if self._do_transform:
            self._draw(size)

    def __call__(self, image: Tensor, *, randomize: bool = True) -> Tensor:  # (C, *S) both
        return self._transformed(image, randomize, self._apply)

    def _transformed(self, image: Tensor, randomize: bool, apply: Callable[[Tensor], Tensor]) -> Tensor:
        """The image after ``apply`` where the draw says so; its metadata stay."""
        if image.ndim not in (3, 4):
            raise ValueError(f"image must be (C, H, W) or (C, D, H, W), got {tuple(image.shape)}")
        if randomize:
            self.randomize(image.shape[1:])
        if self._size is None:
            raise RuntimeError("call randomize() first, or call with randomize=True")
        if tuple(image.shape[1:]) != self._size:
            raise ValueError(f"image has spatial size {tuple(image.shape[1:])}, but the draw is for {self._size}")
        tensor = convert_to_tensor(image, track_meta=True)
        if not self._do_transform:
            return tensor
        values = apply(tensor.as_tensor())
        return tensor.__class__(values, meta=tensor.meta, applied_operations=tensor.applied_operations)


class OneRandomState(Randomizable):
    """A dictionary transform whose random state is that of its array transform."""

    transform: Randomizable

    def set_random_state(self: Self, seed: int | None = None, state: np.random.RandomState | None = None) -> Self:
        self.transform.set_random_state(seed, state)
        super().set_random_state(seed, state)
        return self


class RandImageTransformd(OneRandomState, RandomizableTransform, MapTransform):
    """A dictionary version: all keys share one draw of ``transform`` and must have one spatial size."""

    backend = RandImageTransform.backend
    transform: RandImageTransform

    def __init__(self, keys: KeysCollection, transform: RandImageTransform, allow_missing_keys: bool) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, transform.prob)
        self.transform = transform

    def _transform_key(self, key: Hashable, image: Tensor) -> Tensor:
        """One key's image, on the terms drawn already."""
        return self.transform(image, randomize=False)

    def __call__(self, data: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        result = dict(data)
        first: tuple[Hashable, tuple[int, ...]] | None = None
        for key in self.key_iterator(result):
            size = tuple(result[key].shape[1:])
            if first is None:
                first = (key, size)
                self.transform.randomize(size)
            elif size != first[1]:
                raise ValueError(f"{key} has spatial size {size}, but {first[0]} has {first[1]}; they must agree")
            result[key] = self._transform_key(key, result[key])
        return result
