"""The three backbones: networks that give features at the resolution of the image, in ``out_channels`` channels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from monai.networks.blocks import Convolution
from monai.networks.nets import HighResNet
from torch import Tensor, nn

__all__ = ["FCNet", "ResNet", "UNet", "conv_block", "he_init"]

SLOPE = 0.2  # of all leaky rectifiers
_NORM = ("instance", {"affine": True})
_ACT = ("leakyrelu", {"negative_slope": SLOPE, "inplace": True})


def conv_block(in_channels: int, out_channels: int, kernel: int | Sequence[int] = 3) -> Convolution:
    """Convolution with bias and same padding, instance norm, leaky rectifier."""
    return Convolution(3, in_channels, out_channels, kernel_size=kernel, norm=_NORM, act=_ACT, adn_ordering="NA")


def he_init(network: nn.Module) -> nn.Module:
    """Draw the weights of all convolutions and linear layers by He's rule for the leaky rectifier, with zero biases."""
    for module in network.modules():
        if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, a=SLOPE)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


class UNet(nn.Module):
    """A 3D U-Net: two blocks a level, pooling down, transposed convolutions of 4 voxels up.

    Sides of the image must be multiples of ``2 ** (levels - 1)``.

    Args:
        in_channels: of the image.
        features: channels of every level, from the finest to the coarsest; the first is what comes out.
        pooling: ``max``, or ``average`` as for adversarial training.

    Raises:
        ValueError: for fewer than two levels, or another pooling.
    """

    def __init__(
        self, in_channels: int = 1, *, features: Sequence[int] = (32, 64, 128, 256), pooling: str = "max"
    ) -> None:
        super().__init__()
        if len(features) < 2:
            raise ValueError(f"features must name at least two levels, got {list(features)}")
        if pooling not in ("max", "average"):
            raise ValueError(f"pooling must be max or average, got {pooling!r}")
        self.out_channels = features[0]
        self.divisor = 2 ** (len(features) - 1)
        channels = [in_channels, *features]
        self.down = nn.ModuleList(
            nn.Sequential(conv_block(a, b), conv_block(b, b)) for a, b in zip(channels, features, strict=False)
        )
        self.pool = nn.MaxPool3d(2) if pooling == "max" else nn.AvgPool3d(2)
        levels = list(pairwise(features))[::-1]  # (finer, coarser), the coarsest first
        self.enlarge = nn.ModuleList(
            Convolution(
                3,
                coarse,
                coarse,
                strides=2,
                kernel_size=4,
                padding=1,
                output_padding=0,
                norm=_NORM,
                act=_ACT,
                adn_ordering="NA",
                is_transposed=True,
            )
            for _, coarse in levels
        )
        self.up = nn.ModuleList(
            nn.Sequential(conv_block(fine + coarse, fine), conv_block(fine, fine)) for fine, coarse in levels
        )

    def forward(self, image: Tensor) -> Tensor:  # (B, C, D, H, W) to (B, features[0], D, H, W)
        """Features of every voxel."""
        if image.shape[2] % self.divisor or image.shape[3] % self.divisor or image.shape[4] % self.divisor:
            raise ValueError(f"the sides of the image must be multiples of {self.divisor}, got {list(image.shape[2:])}")
        x = image
        skips: list[Tensor] = []
        for i, block in enumerate(self.down):
            if i:
                x = self.pool(x)
            x = block(x)
            skips.append(x)
        skips.pop()
        for enlarge, block in zip(self.enlarge, self.up):  # noqa: B905 (TorchScript knows no strict)
            x = block(torch.cat([enlarge(x), skips.pop()], 1))
        return x


class FCNet(nn.Sequential):
    """A 3D fully convolutional network: one block for every kernel.

    Args:
        in_channels: of the image.
        features: channels of the blocks.
        kernels: their kernel sizes.
    """

    def __init__(
        self, in_channels: int = 1, *, features: Sequence[int] = (32, 64, 32), kernels: Sequence[int] = (7, 5, 3)
    ) -> None:
        channels = [in_channels, *features]
        super().__init__(
            *(conv_block(a, b, k) for a, b, k in zip(channels[:-1], channels[1:], kernels, strict=True)),
        )
        self.out_channels = features[-1]


class ResNet(nn.Module):
    """A 3D residual network: MONAI's HighResNet (Li et al., IPMI 2017) up to the features before its last layer.

    What follows in MONAI ends in a rectifier and could not give negative values; batch norms become instance norms.

    Args:
        in_channels: of the image.
        features: channels of the first convolution and of the groups of dilated residual blocks (dilation 1, 2, 4),
            then of the features.
        repeat: residual blocks in a group.
    """

    def __init__(
        self, in_channels: int = 1, *, features: Sequence[int] = (16, 16, 32, 64, 80), repeat: int = 3
    ) -> None:
        super().__init__()
        layers: list[dict] = [{"name": "conv_0", "n_features": features[0], "kernel_size": 3}]
        layers += [
            {"name": f"res_{i}", "n_features": width, "kernels": (3, 3), "repeat": repeat}
            for i, width in enumerate(features[1:-1], start=1)
        ]
        layers += [
            {"name": "conv_1", "n_features": features[-1], "kernel_size": 1},
            {"name": "conv_2", "kernel_size": 1},
        ]
        whole = HighResNet(3, in_channels, 1, norm_type=_NORM, acti_type=_ACT, layer_params=layers)
        self.blocks = nn.Sequential(*list(whole.blocks)[:-1])
        self.out_channels = features[-1]

    def forward(self, image: Tensor) -> Tensor:  # (B, C, D, H, W) to (B, features[-1], D, H, W)
        """Features of every voxel."""
        return self.blocks(image)
