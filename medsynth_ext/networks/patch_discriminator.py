"""Patch discriminators that give all their intermediate outputs (Isola et al., CVPR 2017; Wang et al., CVPR 2018)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

__all__ = ["MultiScaleDiscriminator", "PatchDiscriminator"]


class PatchDiscriminator(nn.Module):
    """4 x 4 convolutions with padding 2; every output tells real from fake for a patch of 70 pixels at 4 layers.

    Args:
        in_channels: of the image and what it is conditioned on.
        features: channels of the first convolution; they double up to 8 times as many.
        layers: convolutions before the one that decides; all but the last of them have stride 2.
        slope: of the leaky rectifiers.
    """

    def __init__(self, in_channels: int, *, features: int = 64, layers: int = 4, slope: float = 0.2) -> None:
        super().__init__()
        first = nn.Conv2d(in_channels, features, 4, stride=2, padding=2)
        self.stages = nn.ModuleList([nn.Sequential(first, nn.LeakyReLU(slope))])
        channels = features
        for i in range(1, layers):
            wider = min(2 * channels, 8 * features)
            stride = 1 if i == layers - 1 else 2
            # The instance norm would erase a bias.
            conv = spectral_norm(nn.Conv2d(channels, wider, 4, stride=stride, padding=2, bias=False))
            self.stages.append(nn.Sequential(conv, nn.InstanceNorm2d(wider), nn.LeakyReLU(slope)))
            channels = wider
        self.stages.append(nn.Conv2d(channels, 1, 4, padding=2))

    def forward(self, x: Tensor) -> list[Tensor]:
        """The output of every stage; the last one is the decision, larger for real."""
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs


class MultiScaleDiscriminator(nn.Module):
    """A :class:`PatchDiscriminator` per scale; each scale sees the one before averaged to half its size.

    Args:
        in_channels: of the image and what it is conditioned on.
        scales: number of scales.
        options: of :class:`PatchDiscriminator`.
    """

    def __init__(self, in_channels: int, *, scales: int = 2, **options: int | float) -> None:
        super().__init__()
        self.scales = nn.ModuleList(PatchDiscriminator(in_channels, **options) for _ in range(scales))  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        """The outputs of every scale, the finest first."""
        outputs = []
        for i, discriminator in enumerate(self.scales):
            if i:
                x = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
            outputs.append(discriminator(x))
        return outputs
