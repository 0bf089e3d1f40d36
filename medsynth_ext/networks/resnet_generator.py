"""The residual generator of unpaired translation (Johnson et al., ECCV 2016; Zhu et al., ICCV 2017)."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Conv, Norm
from monai.networks.utils import normal_init
from torch import Tensor, nn

__all__ = ["ResidualBlock", "ResnetGenerator"]

_REFLECT: dict[int, type[nn.Module]] = {2: nn.ReflectionPad2d, 3: nn.ReflectionPad3d}


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with reflection padding and instance norm, added to the input.

    Args:
        spatial_dims: 2 or 3.
        channels: in and out.
    """

    def __init__(self, spatial_dims: int, channels: int) -> None:
        super().__init__()
        conv, norm, pad = Conv["conv", spatial_dims], Norm["instance", spatial_dims], _REFLECT[spatial_dims]
        self.layers = nn.Sequential(
            pad(1),
            conv(channels, channels, 3),
            norm(channels),
            nn.ReLU(inplace=True),
            pad(1),
            conv(channels, channels, 3),
            norm(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class ResnetGenerator(nn.Module):
    """A 7 x 7 convolution, two of stride 2, residual blocks, two transposed ones, 7 x 7: images in [-1, 1] to the same.

    With its defaults c7s1-64, d128, d256, 9 x R256, u128, u64, c7s1-3. First weights are normal with a deviation of
    0.02.

    Args:
        spatial_dims: 2 or 3.
        in_channels: of the image.
        out_channels: of the translated image.
        features: channels of the first convolution.
        blocks: residual blocks; 9 for 256 pixels, 6 for 128.
        downsamplings: convolutions of stride 2; the sides of an image must be multiples of 2 to their power.
        upsampling: ``transposed`` as published, or ``resize``: repeated pixels and a convolution of stride 1, which
            cannot draw the chequered pattern of a transposed one (Odena et al., Distill 2016).

    Raises:
        ValueError: for another ``upsampling``.
    """

    def __init__(
        self,
        *,
        spatial_dims: int = 2,
        in_channels: int = 3,
        out_channels: int = 3,
        features: int = 64,
        blocks: int = 9,
        downsamplings: int = 2,
        upsampling: str = "transposed",
    ) -> None:
        super().__init__()
        if upsampling not in ("transposed", "resize"):
            raise ValueError(f"upsampling must be transposed or resize, got {upsampling!r}")
        conv, up = Conv["conv", spatial_dims], Conv["convtrans", spatial_dims]
        norm, pad = Norm["instance", spatial_dims], _REFLECT[spatial_dims]
        self.multiple = 2**downsamplings
        layers: list[nn.Module] = [pad(3), conv(in_channels, features, 7), norm(features), nn.ReLU(inplace=True)]
        width = features
        for _ in range(downsamplings):
            layers += [conv(width, 2 * width, 3, stride=2, padding=1), norm(2 * width), nn.ReLU(inplace=True)]
            width *= 2
        layers += [ResidualBlock(spatial_dims, width) for _ in range(blocks)]
        for _ in range(downsamplings):
            if upsampling == "resize":
                layers += [nn.Upsample(scale_factor=2), pad(1), conv(width, width // 2, 3)]
            else:
                layers += [up(width, width // 2, 3, stride=2, padding=1, output_padding=1)]
            layers += [norm(width // 2), nn.ReLU(inplace=True)]
            width //= 2
        layers += [pad(3), conv(features, out_channels, 7)]
        self.layers = nn.Sequential(*layers)
        self.apply(normal_init)

    def forward(self, x: Tensor) -> Tensor:
        """Translate images.

        Raises:
            ValueError: for a size that the strides do not divide.
        """
        if any(side % self.multiple for side in x.shape[2:]):
            raise ValueError(f"the sides of an image must be multiples of {self.multiple}, got {tuple(x.shape[2:])}")
        return torch.tanh(self.layers(x))
