"""A pool of earlier generated images for a discriminator (Shrivastava et al., CVPR 2017)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from medsynth_ext.engines.processes import gather_batch, rank_and_world

__all__ = ["ImagePool"]


class ImagePool:
    """Hands a discriminator a mixture of new and earlier generated images.

    Until the pool is full, every new image is kept and handed on. Then a new one is handed on as it is or, with
    probability one half, takes the place of a random earlier one, which is handed on instead. The state holds the
    images and that of the draws, so that a training that goes on from a checkpoint draws what it would have drawn. With
    several processes each holds the same pool, that of all their images, and gets what falls to its own.

    Args:
        capacity: number of images; 0 hands on the new ones alone.
        seed: of the draws.

    Raises:
        ValueError: for a negative capacity.
    """

    def __init__(self, capacity: int = 50, *, seed: int = 0) -> None:
        if capacity < 0:
            raise ValueError(f"capacity must be 0 or more images, got {capacity}")
        self.capacity = capacity
        self.images: list[Tensor] = []
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, images: Tensor) -> Tensor:  # (B, C, *S) to (B, C, *S), without gradient
        """What the discriminator shall see in place of these new images."""
        images = images.detach()
        if self.capacity == 0:
            return images
        rank, world = rank_and_world()
        return torch.stack([self._exchange(image) for image in gather_batch(images)]).chunk(world)[rank]

    def _exchange(self, image: Tensor) -> Tensor:
        if len(self.images) < self.capacity:
            self.images.append(image.clone())
            return image
        if torch.rand((), generator=self.generator) < 0.5:
            return image
        place = int(torch.randint(self.capacity, (), generator=self.generator))
        earlier = self.images[place].to(image)
        self.images[place] = image.clone()
        return earlier

    def state_dict(self) -> dict[str, Any]:
        """The images and the state of the draws."""
        return {"images": [image.cpu() for image in self.images], "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state.

        Raises:
            ValueError: for more images than this pool holds.
        """
        if len(state["images"]) > self.capacity:
            raise ValueError(f"the pool holds {self.capacity} images, the state has {len(state['images'])}")
        self.images = list(state["images"])
        self.generator.set_state(state["generator"])
