"""Features of VGG-19, with weights from a file or random ones: nothing is fetched."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from medsynth_ext.handlers.weights import WeightsError, load_weights

__all__ = ["VGG_LAYERS", "VGGFeatures"]

VGG_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
_BLOCKS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 1))
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class VGGFeatures(nn.Module):
    """The first rectified output of each of the five blocks of VGG-19 (Simonyan and Zisserman, ICLR 2015).

    Grey images are repeated to three channels. With a file, images in [-1, 1] are brought to the statistics that the
    published weights were trained with.

    Args:
        weights: a state dict in torchvision's names (``features.0.weight``, ...), or ``random``: Kaiming weights from
            ``seed``, which are a usable distance between textures though no image was ever seen.
        width: share of VGG's channels; 1 for weights from a file.
        seed: of the random weights.

    Raises:
        WeightsError: when the file is not one of VGG-19.
        ValueError: for weights from a file with another width.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: str = "random", *, width: float = 1.0, seed: int = 0) -> None:
        super().__init__()
        pretrained = weights != "random"
        if pretrained and width != 1.0:
            raise ValueError(f"width must be 1 with weights from a file, got {width}")
        layers: list[nn.Module] = []
        self.taps: list[int] = []
        channels = 3
        for block, (wide, convolutions) in enumerate(_BLOCKS):
            if block:
                layers.append(nn.MaxPool2d(2, ceil_mode=True))
            wide = max(1, round(width * wide))
            for i in range(convolutions):
                # Not initialised here, so that torch's random state is left alone.
                layers += [nn.utils.skip_init(nn.Conv2d, channels, wide, 3, padding=1), nn.ReLU()]
                channels = wide
                if i == 0:
                    self.taps.append(len(layers) - 1)
        self.features = nn.Sequential(*layers)
        mean, std = (_MEAN, _STD) if pretrained else ((0.0,) * 3, (1.0,) * 3)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.pretrained = pretrained
        if pretrained:
            _load_torchvision(self, weights)
        else:
            _draw(self.features, seed)
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> VGGFeatures:
        """There is nothing to train."""
        return super().train(False)

    def forward(self, image: Tensor) -> list[Tensor]:  # (B, 1 or 3, H, W) in [-1, 1]
        x = image.expand(-1, 3, -1, -1)
        if self.pretrained:
            x = ((x + 1) / 2 - self.mean) / self.std
        outputs = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.taps:
                outputs.append(x)
        return outputs


def _draw(features: nn.Sequential, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


def _load_torchvision(network: VGGFeatures, path: str) -> None:
    """The file holds the whole classifier; only the layers up to relu5_1 are taken."""
    if not Path(path).is_file():
        raise WeightsError(f"the VGG weights file {path} does not exist; give a path or 'random'")
    load_weights(network, path, allow_foreign=True)
