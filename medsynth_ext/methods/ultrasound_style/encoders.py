"""What an image shows, and what it looks like: the two encoders."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsynth_ext.methods.ultrasound_style.blocks import ConvBlock
from medsynth_ext.networks.adain import channel_statistics

__all__ = ["LATENTS", "ContentEncoder", "StyleEncoder"]

LATENTS = ("spatial", "vector")


class ContentEncoder(nn.Module):
    """Features at five (or as many as there are widths) scales, each half as large as the one before.

    Args:
        in_channels: of the image.
        features: width of every scale, from the finest.
        norm: ``batch``, or ``instance``, which takes style out of the features.
    """

    def __init__(self, in_channels: int, features: Sequence[int], *, norm: str = "batch") -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        for width in features:
            self.blocks.append(ConvBlock(in_channels, width, norm=norm))
            in_channels = width

    def forward(self, image: Tensor) -> list[Tensor]:  # (B, C_i, H / 2^i, W / 2^i)
        maps: list[Tensor] = []
        x = image
        for i, block in enumerate(self.blocks):
            if i > 0:
                x = F.max_pool2d(x, 2)
            x = block(x)
            maps.append(x)
        return maps


class _SpatialHead(nn.Module):
    """From a code per place to a feature map; AdaIN sees its mean and deviation."""

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        self.block = ConvBlock(channels, channels, norm=norm)

    def forward(self, code: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = self.block(code)
        mean, deviation = channel_statistics(found)
        return found, mean, deviation


class _VectorHead(nn.Module):
    """From one code for the whole image to mean and deviation of every channel; as a map it is constant."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels, 2 * channels)
        self.out = nn.Linear(2 * channels, 2 * channels)

    def forward(self, code: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, raw = self.out(F.silu(self.hidden(code.mean(dim=(2, 3))))).chunk(2, dim=1)
        found = mean[:, :, None, None].expand(-1, -1, code.shape[2], code.shape[3])
        return found, mean, F.softplus(raw)


class StyleEncoder(nn.Module):
    """A Gaussian code at every scale, and what the decoder makes of a code.

    The mean is ``tanh`` and the standard deviation ``sigmoid`` of a 1x1 convolution.

    Args:
        in_channels: of the image.
        features: width of every scale; a code has as many entries (at every place).
        latent: ``spatial``: a code for every place of the scale; ``vector``: one code for the whole image, from the
            average over it. Independent spatial noise averages out in the mean and deviation that reach the decoder,
            so only vectors can be drawn from the prior.
        norm: ``batch`` or ``instance``.

    Raises:
        ValueError: for another latent.
    """

    def __init__(
        self, in_channels: int, features: Sequence[int], *, latent: str = "vector", norm: str = "batch"
    ) -> None:
        super().__init__()
        if latent not in LATENTS:
            raise ValueError(f"latent must be one of {', '.join(LATENTS)}, got {latent!r}")
        self.vector = latent == "vector"
        self.trunk = ContentEncoder(in_channels, features, norm=norm)
        self.moments = nn.ModuleList([nn.Conv2d(width, 2 * width, 1) for width in features])
        self.heads = nn.ModuleList([_VectorHead(w) if self.vector else _SpatialHead(w, norm) for w in features])

    def forward(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Mean and standard deviation of the code of every scale, (B, C_i, h, w), h = w = 1 for vectors."""
        means: list[Tensor] = []
        deviations: list[Tensor] = []
        maps = self.trunk(image)
        for i, layer in enumerate(self.moments):
            x = maps[i]
            if self.vector:
                x = x.mean(dim=(2, 3), keepdim=True)
            mean, raw = layer(x).chunk(2, dim=1)
            means.append(torch.tanh(mean))
            deviations.append(torch.sigmoid(raw))
        return means, deviations

    @torch.jit.export
    def features(self, codes: list[Tensor], like: list[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Style maps of every scale, their channels' means and deviations.

        Args:
            codes: (B, C_i, h, w) or (B, C_i, 1, 1), which is taken for every place.
            like: maps of the sizes that are wanted.
        """
        maps: list[Tensor] = []
        means: list[Tensor] = []
        deviations: list[Tensor] = []
        for i, head in enumerate(self.heads):
            code, size = codes[i], like[i].shape[2:]
            if code.shape[2] != size[0] or code.shape[3] != size[1]:
                code = F.interpolate(code, size=[size[0], size[1]], mode="nearest")
            found, mean, deviation = head(code)
            maps.append(found)
            means.append(mean)
            deviations.append(deviation)
        return maps, means, deviations
