"""A network as a step of post-processing."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.networks.utils import eval_mode
from monai.transforms import MapTransform
from torch import Tensor, nn

__all__ = ["RunNetworkd", "predicted"]


def predicted(image: Tensor, network: nn.Module, *, labels: bool = False) -> Tensor:  # (C, *S)
    """What a network makes of one volume, with its metadata; class indices (1, *S) where these are wanted."""
    place = next(network.parameters()).device
    with eval_mode(network):
        found = network(torch.as_tensor(image).as_subclass(Tensor)[None].to(place).float())[0]
    found = found.argmax(0, keepdim=True) if labels else found
    return MetaTensor(found, meta=image.meta) if isinstance(image, MetaTensor) else found


class RunNetworkd(MapTransform):
    """Put what ``network`` makes of ``key`` into ``output``.

    Args:
        keys: one key, of a volume (C, *S).
        output: key of the result.
        network: such as a segmenter of generated images, whose overlap with the source's label is the S-score.
        labels: class indices instead of what the network gives.
    """

    def __init__(self, keys: KeysCollection, output: str, network: nn.Module, *, labels: bool = False) -> None:
        super().__init__(keys)
        if len(self.keys) != 1:
            raise ValueError(f"keys must be one key, got {self.keys}")
        self.output = output
        self.network = network
        self.labels = labels

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        result[self.output] = predicted(result[self.keys[0]], self.network, labels=self.labels)
        return result
