"""Features of VGG-16 or VGG-19, with weights from a file or random ones: nothing is fetched."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from medsynth_ext.handlers.weights import WeightsError, load_weights

__all__ = ["VGG_LAYERS", "VGGFeatures"]

VGG_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
_BLOCKS = {
    16: ((64, 2), (128, 2), (256, 3), (512, 3), (512, 1)),
    19: ((64, 2), (128, 2), (256, 4), (512, 4), (512, 1)),
}
# Mean and deviation by which images in [0, 1] are centred and divided, and the order of the colours.
_CONVENTIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...], bool]] = {
    "torchvision": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), False),
    "caffe": ((103.939 / 255, 116.779 / 255, 123.68 / 255), (1 / 255,) * 3, True),
}


class VGGFeatures(nn.Module):
    """The first rectified output of each of the five blocks of VGG (Simonyan and Zisserman, ICLR 2015).

    Grey images are repeated to three channels. With a file, images in [-1, 1] are brought to the statistics that the
    published weights were trained with.

    Args:
        weights: a state dict in torchvision's names (``features.0.weight``, ...), or ``random``: Kaiming weights from
            ``seed``, which are a usable distance between textures though no image was ever seen.
        width: share of VGG's channels; 1 for weights from a file.
        seed: of the random weights.
        depth: 16 or 19 layers.
        convention: what the file's weights expect: ``torchvision``, or ``caffe`` (0 to 255, mean subtracted, blue
            first), in which the original weights are.
        trainable: leave the weights open for training; otherwise they are fixed.

    Raises:
        WeightsError: when the file is not one of this network.
        ValueError: for weights from a file with another width, another depth or convention.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        weights: str = "random",
        *,
        width: float = 1.0,
        seed: int = 0,
        depth: int = 19,
        convention: str = "torchvision",
        trainable: bool = False,
    ) -> None:
        super().__init__()
        if depth not in _BLOCKS or convention not in _CONVENTIONS:
            wanted = f"{sorted(_BLOCKS)} and convention one of {sorted(_CONVENTIONS)}"
            raise ValueError(f"depth must be one of {wanted}, got {depth} and {convention!r}")
        pretrained = weights != "random"
        if pretrained and width != 1.0:
            raise ValueError(f"width must be 1 with weights from a file, got {width}")
        layers: list[nn.Module] = []
        self.taps: list[int] = []
        channels = 3
        for block, (wide, convolutions) in enumerate(_BLOCKS[depth]):
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
        mean, std, self.blue_first = _CONVENTIONS[convention] if pretrained else ((0.0,) * 3, (1.0,) * 3, False)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.pretrained = pretrained
        if pretrained:
            _load_torchvision(self, weights)
        else:
            _draw(self.features, seed)
        self.trainable = trainable
        self.requires_grad_(trainable)

    def train(self, mode: bool = True) -> VGGFeatures:
        """Without open weights there is nothing to train."""
        return super().train(mode and self.trainable)

    def forward(self, image: Tensor) -> list[Tensor]:  # (B, 1 or 3, H, W) in [-1, 1]
        x = image.expand(-1, 3, -1, -1)
        if self.pretrained:
            x = (x.flip(1) if self.blue_first else x) / 2 + 0.5
            x = (x - self.mean) / self.std
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
