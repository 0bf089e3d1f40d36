"""How the network is run on a scan: on the window around the brain, on the mirror image too, smoothed and averaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, SimpleInferer
from torch import Tensor

from medsynth_ext import ops

__all__ = ["BrainWindowInferer", "FlipInferer"]


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
        return _like(posterior, inputs)

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


class BrainWindowInferer(Inferer):
    """Find the brain with one run over the whole image, then look again at the window around it.

    A network that normalises an image by the image's own statistics is at its best with as much surroundings as it was
    trained with. What lies outside of the window keeps the posteriors of the first run, so a brain that is larger than
    the window is not cut. An image no larger than the window is run once.

    Args:
        inferer: gives the posteriors of the window, as ``FlipInferer`` does.
        window: voxels of the window, multiples of the network's divisor; that of the training images.
    """

    def __init__(self, inferer: Inferer, *, window: Sequence[int]) -> None:
        super().__init__()
        if any(n < 1 for n in window):
            raise ValueError(f"window must be positive, got {list(window)}")
        self.inferer = inferer
        self.window = list(window)

    def __call__(
        self,
        inputs: Tensor,  # (B, C, D, H, W)
        network: Callable[..., Tensor],
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:  # (B, K, D, H, W)
        image = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        if len(self.window) != image.ndim - 2:
            raise ValueError(f"window must have {image.ndim - 2} sizes, one per axis, got {self.window}")
        if all(n <= w for n, w in zip(image.shape[2:], self.window, strict=True)):
            return self.inferer(inputs, network, *args, **kwargs)
        posterior = torch.softmax(network(image, *args, **kwargs).float(), dim=1)
        for b in range(len(image)):
            window = (slice(b, b + 1), slice(None), *self._around(1 - posterior[b, 0]))
            posterior[window] = self.inferer(image[window], network, *args, **kwargs)
        return _like(posterior, inputs)

    def _around(self, brain: Tensor) -> list[slice]:
        """The window around the middle of what is probably brain; (D, H, W) probabilities."""
        brain = torch.where(brain > 0.5, brain, 0)
        slices = []
        for axis, size in enumerate(self.window):
            length = brain.shape[axis]
            share = brain.sum([a for a in range(brain.ndim) if a != axis]).cumsum(0)
            # One percent on either side is left out: a stray voxel must not move the window.
            low, high = ((share <= q * share[-1]).sum().item() for q in (0.01, 0.99))
            start = min(max(0, (low + high - size) // 2), max(0, length - size))
            slices.append(slice(start, start + min(size, length)))
        return slices


def _like(posterior: Tensor, inputs: Tensor) -> Tensor:
    """The posterior as a MetaTensor where the input is one."""
    if not isinstance(inputs, MetaTensor):
        return posterior
    result = MetaTensor(posterior)
    result.copy_meta_from(inputs, copy_attr=False)
    result.is_batch = inputs.is_batch
    return result
