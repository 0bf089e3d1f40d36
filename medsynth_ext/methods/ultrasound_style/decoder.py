"""From features back to an image, with or without a style."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsynth_ext.methods.ultrasound_style.blocks import PADDING, ConvBlock
from medsynth_ext.networks.adain import adain

__all__ = ["ADAIN_PLACES", "Decoder"]

ADAIN_PLACES = ("decoder", "skip", "none")


class Decoder(nn.Module):
    """The expanding half of a U-Net whose features take over the style's means and deviations.

    Every level: twice as large (bilinear), 2x2 convolution, swish, the skip beside it, two convolutions.

    Args:
        out_channels: of the image.
        features: widths of the scales, from the finest.
        adain_on: ``decoder``: AdaIN on the deepest content feature and after every level, skips as they are (as the
            authors' code has it); ``skip``: on the content features before they enter (as their text has it); ``none``:
            a plain U-Net.
        norm: ``batch`` or ``instance``.

    Raises:
        ValueError: for another place.
    """

    def __init__(
        self, out_channels: int, features: Sequence[int], *, adain_on: str = "decoder", norm: str = "batch"
    ) -> None:
        super().__init__()
        if adain_on not in ADAIN_PLACES:
            raise ValueError(f"adain_on must be one of {', '.join(ADAIN_PLACES)}, got {adain_on!r}")
        self.on_levels, self.on_skips = adain_on == "decoder", adain_on == "skip"
        self.ups, self.blocks = nn.ModuleList(), nn.ModuleList()
        for i in range(len(features) - 2, -1, -1):
            self.ups.append(nn.Conv2d(features[i + 1], features[i], 2, padding="same", padding_mode=PADDING))
            self.blocks.append(ConvBlock(2 * features[i], features[i], norm=norm))
        self.out = nn.Conv2d(features[0], out_channels, 1)

    def forward(self, content: list[Tensor], means: list[Tensor], deviations: list[Tensor]) -> Tensor:  # (B, C, H, W)
        """An image in [0, 1] from features (B, C_i, h, w) and the style's statistics (B, C_i), unused without AdaIN."""
        last = len(content) - 1
        x = content[last]
        if self.on_levels or self.on_skips:
            x = adain(x, means[last], deviations[last])
        for j, (up, block) in enumerate(zip(self.ups, self.blocks)):  # noqa: B905 (TorchScript has no strict)
            i = last - 1 - j
            skip = content[i]
            if self.on_skips:
                skip = adain(skip, means[i], deviations[i])
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = block(torch.cat([F.silu(up(x)), skip], dim=1))
            if self.on_levels:
                x = adain(x, means[i], deviations[i])
        return torch.sigmoid(self.out(x))
