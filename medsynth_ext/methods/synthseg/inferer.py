"""Posteriors of an image and its mirror image, smoothed and averaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, SimpleInferer
from torch import Tensor

from medsynth_ext import ops

__all__ = ["FlipInferer"]


class FlipInferer(Inferer):
    """Run the network on the image and on its left-right mirror image and average the two posteriors.

    Each posterior is smoothed with a Gaussian before averaging; the mirror image's posterior is mirrored back and its
    left and right channels are swapped. The network gives logits, the inferer gives posteriors that sum to one.

    Args:
        target_flip: mirrored channel of every channel (``LabelTable.target_flip``).
        flip: whether to use the mirror image; without it inference takes half the time.
        sigma: width of the smoothing in voxels, 0 for none.
        axis: tensor axis that runs from left to right, the first spatial axis in RAS images.
        inferer: how the network is run on one image; whole by default, a ``SlidingWindowInferer`` saves memory.
    """

    def __init__(
        self,
        target_flip: Sequence[int],
        *,
        flip: bool = True,
        sigma: float = 0.5,
        axis: int = 2,
        inferer: Inferer | None = None,
    ) -> None:
        super().__init__()
        if sorted(target_flip) != list(range(len(target_flip))):
            raise ValueError(f"target_flip must hold every channel once, got {list(target_flip)}")
        if sigma < 0:
            raise ValueError(f"sigma must not be negative, got {sigma}")
        self.target_flip = list(target_flip)
        self.flip = flip
        self.sigma = sigma
        self.axis = axis
        self.inferer = SimpleInferer() if inferer is None else inferer

    def __call__(
        self,
        inputs: Tensor,  # (B, C, D, H, W)
        network: Callable[..., Tensor],
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:  # (B, K, D, H, W)
        image = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        posterior = self._posterior(image, network, *args, **kwargs)
        if self.flip:
            mirrored = self._posterior(image.flip(self.axis), network, *args, **kwargs)
            posterior = 0.5 * (posterior + mirrored.flip(self.axis)[:, self.target_flip])
        if isinstance(inputs, MetaTensor):
            result = MetaTensor(posterior)
            result.copy_meta_from(inputs, copy_attr=False)
            result.is_batch = inputs.is_batch
            return result
        return posterior

    def _posterior(self, image: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        logits = self.inferer(image, network, *args, **kwargs)
        if logits.shape[1] != len(self.target_flip):
            raise ValueError(
                f"the network gives {logits.shape[1]} channels, but target_flip has {len(self.target_flip)}"
            )
        posterior = torch.softmax(logits.float(), dim=1)
        if self.sigma == 0:
            return posterior
        return ops.gaussian_blur(posterior, torch.full((image.ndim - 2,), self.sigma, device=image.device))
