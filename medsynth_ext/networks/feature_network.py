"""Features for perceptual losses and distances of distributions, from any network and never from a hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsynth_ext.handlers.weights import load_weights
from medsynth_ext.networks.vgg_features import VGGFeatures

__all__ = ["FeatureClassifier", "FeatureNetwork"]


class FeatureNetwork(nn.Module):
    """The maps of a network at several depths, each divided so that its mean square is one on a calibration batch.

    Args:
        body: maps images in [-1, 1] to a list of maps or vectors; a VGG-16 of ``width`` in our own small form when
            ``None``.
        width: share of VGG's channels where there is no body.
        weights: file with the weights and divisors of this network as its ``state_dict`` holds them; without one the
            body stays as it is and every divisor is 1 until :meth:`calibrate`.
        value_range: of the images that it is given.
        size: rows and columns to which images are resized before; ``None`` takes them as they are.
        trainable: leave the weights open, for a training of the features themselves.

    Raises:
        WeightsError: when the file is not one of this network.
    """

    scale: Tensor

    def __init__(
        self,
        body: nn.Module | None = None,
        *,
        width: float = 0.25,
        weights: str | None = None,
        value_range: Sequence[float] = (0.0, 1.0),
        size: Sequence[int] | None = None,
        trainable: bool = False,
        layers: int = 5,
    ) -> None:
        super().__init__()
        self.body = VGGFeatures(depth=16, width=width, trainable=trainable) if body is None else body
        self.low, self.high = (float(value) for value in value_range)
        self.size = None if size is None else tuple(int(n) for n in size)
        self.trainable = trainable
        self.register_buffer("scale", torch.ones(layers))
        if weights is not None:
            load_weights(self, weights)
        self.requires_grad_(trainable)

    def train(self, mode: bool = True) -> FeatureNetwork:
        """Without open weights it stays in evaluation mode."""
        return super().train(mode and self.trainable)

    def maps(self, image: Tensor) -> list[Tensor]:
        """What the body gives, undivided."""
        x = 2 * (image - self.low) / (self.high - self.low) - 1
        if self.size is not None:
            x = F.interpolate(x, size=self.size, mode="bilinear", align_corners=False)
        found = self.body(x)
        return [found] if isinstance(found, Tensor) else list(found)

    def forward(self, image: Tensor) -> list[Tensor]:  # (B, C, H, W) -> (B, C_l, h, w) each
        found = self.maps(image)
        if len(found) != len(self.scale):
            raise ValueError(f"the network gives {len(found)} maps, but layers is {len(self.scale)}")
        return [part / scale for part, scale in zip(found, self.scale, strict=True)]

    @torch.no_grad()
    def calibrate(self, images: Tensor) -> None:  # (B, C, H, W)
        """Set the divisors from a batch of typical images."""
        squares = [part.float().pow(2).mean() for part in self.maps(images)]
        self.scale.copy_(torch.stack(squares).sqrt().clamp_min(1e-6))


class FeatureClassifier(nn.Module):
    """Linear heads on the pooled features of all depths: what features are trained with.

    Mean and deviation over space of every channel are classified, so that textures count and not only what is there.

    Args:
        features: with open weights.
        classes: number of classes by the name of the question, for example ``{"machine": 6, "content": 4}``.
        probe: an image size that the features can be tried with.
    """

    def __init__(
        self, features: FeatureNetwork, classes: Mapping[str, int], *, probe: Sequence[int] = (1, 1, 64, 64)
    ) -> None:
        super().__init__()
        self.features = features
        with torch.no_grad():
            channels = sum(part.shape[1] for part in features(torch.zeros(*probe)))
        self.heads = nn.ModuleDict({name: nn.Linear(2 * channels, count) for name, count in classes.items()})

    def forward(self, image: Tensor) -> dict[str, Tensor]:  # (B, classes) by question
        pooled = []
        for part in self.features(image):
            flat = part.flatten(2)
            pooled += [flat.mean(2), flat.var(2, unbiased=False).clamp_min(1e-8).sqrt()]
        vectors = torch.cat(pooled, 1)
        return {name: head(vectors) for name, head in self.heads.items()}
