"""Patch discriminators that give all their intermediate outputs (Isola et al., CVPR 2017; Wang et al., CVPR 2018)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from monai.networks.layers.factories import Conv
from monai.networks.layers.utils import get_norm_layer
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

__all__ = ["MultiScaleDiscriminator", "PatchDiscriminator"]

_AVERAGE: dict[int, Callable[..., Tensor]] = {2: F.avg_pool2d, 3: F.avg_pool3d}


class PatchDiscriminator(nn.Module):
    """4 x 4 convolutions, all but the last two with stride 2; every output tells real from fake for a patch.

    The patch has a side of 16, 34, 70, 142, 286 pixels with 2 to 6 ``layers`` (pix2pix counts one less: its
    ``n_layers`` of 3 is 4 here).

    Args:
        in_channels: of the image and what it is conditioned on.
        spatial_dims: 2 or 3.
        features: channels of the first convolution.
        layers: convolutions before the one that decides; all but the last of them have stride 2.
        max_features: the channels double from layer to layer up to this; 8 times ``features`` when ``None``.
        slope: of the leaky rectifiers.
        padding: of every convolution, 1 in pix2pix and 2 in pix2pixHD.
        norm: of the inner layers as MONAI names it, ``None`` for none.
        spectral: put the inner convolutions under spectral norm.
        sigmoid: give the decision as a probability, not as a logit.

    Raises:
        ValueError: for fewer than 1 layer.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        spatial_dims: int = 2,
        features: int = 64,
        layers: int = 4,
        max_features: int | None = None,
        slope: float = 0.2,
        padding: int = 2,
        norm: str | tuple | None = "instance",
        spectral: bool = True,
        sigmoid: bool = False,
    ) -> None:
        if layers < 1:
            raise ValueError(f"layers must be at least 1, got {layers}")
        super().__init__()
        conv = Conv["conv", spatial_dims]
        limit = 8 * features if max_features is None else max_features
        first = conv(in_channels, features, 4, stride=1 if layers == 1 else 2, padding=padding)
        self.stages = nn.ModuleList([nn.Sequential(first, nn.LeakyReLU(slope))])
        channels = features
        for i in range(1, layers):
            wider = max(channels, min(2 * channels, limit))
            # A norm would erase a bias.
            inner = conv(channels, wider, 4, stride=1 if i == layers - 1 else 2, padding=padding, bias=norm is None)
            stage = [spectral_norm(inner) if spectral else inner]
            if norm is not None:
                stage.append(get_norm_layer(norm, spatial_dims=spatial_dims, channels=wider))
            self.stages.append(nn.Sequential(*stage, nn.LeakyReLU(slope)))
            channels = wider
        self.stages.append(conv(channels, 1, 4, padding=padding))
        self.sigmoid = sigmoid

    def forward(self, x: Tensor) -> list[Tensor]:
        """The output of every stage; the last one is the decision, larger for real."""
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        if self.sigmoid:
            outputs[-1] = outputs[-1].sigmoid()
        return outputs


class MultiScaleDiscriminator(nn.Module):
    """A :class:`PatchDiscriminator` per scale; each scale sees the one before averaged to half its size.

    Args:
        in_channels: of the image and what it is conditioned on.
        scales: number of scales.
        spatial_dims: 2 or 3.
        options: of :class:`PatchDiscriminator`.
    """

    def __init__(self, in_channels: int, *, scales: int = 2, spatial_dims: int = 2, **options: Any) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            PatchDiscriminator(in_channels, spatial_dims=spatial_dims, **options) for _ in range(scales)
        )
        self.average = _AVERAGE[spatial_dims]

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        """The outputs of every scale, the finest first."""
        outputs = []
        for i, discriminator in enumerate(self.scales):
            if i:
                x = self.average(x, 3, stride=2, padding=1, count_include_pad=False)
            outputs.append(discriminator(x))
        return outputs
