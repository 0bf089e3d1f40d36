"""The three networks that are trained: the transfer itself, and the two that its encoders learn in before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medsynth_ext.methods.ultrasound_style.blocks import glorot_uniform
from medsynth_ext.methods.ultrasound_style.decoder import Decoder
from medsynth_ext.methods.ultrasound_style.encoders import ContentEncoder, StyleEncoder
from medsynth_ext.networks.gaussian_codes import draw_codes

__all__ = ["ContentUNet", "StyleTransferNetwork", "StyleVAE"]


class StyleTransferNetwork(nn.Module):
    """Shows the content of one image in the style of another, or of a code (Hung and Galeotti, DGM4MICCAI 2021).

    Sizes must be multiples of ``2 ** (len(features) - 1)``.

    Args:
        in_channels: of the images.
        features: widths of the scales, from the finest; 64 to 1024 in the paper.
        latent: of the style, see :class:`StyleEncoder`.
        adain_on: see :class:`Decoder`.
        content_norm: ``batch`` or ``instance``.
    """

    def __init__(
        self,
        in_channels: int = 1,
        features: Sequence[int] = (64, 128, 256, 512, 1024),
        *,
        latent: str = "vector",
        adain_on: str = "decoder",
        content_norm: str = "batch",
    ) -> None:
        super().__init__()
        self.features = tuple(int(width) for width in features)
        self.content_encoder = ContentEncoder(in_channels, features, norm=content_norm)
        self.style_encoder = StyleEncoder(in_channels, features, latent=latent)
        self.decoder = Decoder(in_channels, features, adain_on=adain_on)
        glorot_uniform(self)

    def forward(self, image: Tensor, style: Tensor | None = None) -> Tensor:  # (B, C, H, W) in [0, 1]
        """The image in the mean style of ``style`` (B, C, h, w), or of itself."""
        means, _ = self.style_encoder(image if style is None else style)
        return self.render(image, means)

    @torch.jit.export
    def render(self, image: Tensor, codes: list[Tensor]) -> Tensor:  # (B, C, H, W)
        """The image in the style of codes, (B, C_i, h, w) or (B, C_i, 1, 1) for every scale."""
        content = self.content_encoder(image)
        _, means, deviations = self.style_encoder.features(codes, content)
        return self.decoder(content, means, deviations)

    def split(self, vectors: Tensor) -> list[Tensor]:  # (B, sum of C_i) -> (B, C_i, 1, 1) each
        """Codes from vectors that hold all scales, one after the other."""
        return [part[:, :, None, None] for part in vectors.split(list(self.features), 1)]

    def join(self, codes: Sequence[Tensor]) -> Tensor:  # (B, sum of C_i)
        """One vector per sample from codes of all scales; spatial codes are averaged over the image."""
        return torch.cat([code.mean((2, 3)) for code in codes], 1)


class ContentUNet(nn.Module):
    """A U-Net that learns to give its input back; its encoder is the transfer's content encoder."""

    def __init__(
        self, in_channels: int = 1, features: Sequence[int] = (64, 128, 256, 512, 1024), *, norm: str = "batch"
    ):
        super().__init__()
        self.content_encoder = ContentEncoder(in_channels, features, norm=norm)
        self.decoder = Decoder(in_channels, features, adain_on="none")
        glorot_uniform(self)

    def forward(self, image: Tensor) -> Tensor:  # (B, C, H, W)
        empty: list[Tensor] = []
        return self.decoder(self.content_encoder(image), empty, empty)


class StyleVAE(nn.Module):
    """A variational U-Net that learns to give its input back from style codes; its encoder is the transfer's."""

    def __init__(
        self, in_channels: int = 1, features: Sequence[int] = (64, 128, 256, 512, 1024), *, latent: str = "vector"
    ) -> None:
        super().__init__()
        self.style_encoder = StyleEncoder(in_channels, features, latent=latent)
        self.decoder = Decoder(in_channels, features, adain_on="none")
        glorot_uniform(self)

    def forward(self, image: Tensor) -> Tensor:  # (B, C, H, W)
        return self.reconstruct(image)[0]

    def reconstruct(self, image: Tensor, **draw: Any) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Reconstruction, means and deviations of the codes.

        Args:
            image: (B, C, H, W).
            draw: options of :func:`draw_codes`; without them the codes are their means.
        """
        means, deviations = self.style_encoder(image)
        codes = draw_codes(means, deviations, **draw) if draw else means
        sizes = [image[:, :1, :: 2**i, :: 2**i] for i in range(len(means))]
        maps, _, _ = self.style_encoder.features(codes, sizes)
        return self.decoder(maps, [], []), means, deviations
