"""The judge of whole patches: the U-Net's encoder with one decision."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medsynth_ext.methods.frequency_supervised.backbones import conv_block, he_init

__all__ = ["EncoderDiscriminator"]


class EncoderDiscriminator(nn.Module):
    """Two blocks a level with average pooling between levels, the mean over all voxels, one logit.

    Args:
        in_channels: 2 where the image is judged beside the MR, 1 where it is judged alone.
        features: channels of every level.
    """

    def __init__(self, in_channels: int = 2, *, features: Sequence[int] = (32, 64, 128, 256)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(zip([in_channels, *features[:-1]], features, strict=True)):
            layers += [nn.AvgPool3d(2)] if i else []
            layers += [conv_block(a, b), conv_block(b, b)]
        self.encoder = nn.Sequential(*layers)
        self.decide = nn.Linear(features[-1], 1)
        he_init(self)

    def forward(self, image: Tensor) -> Tensor:  # (B, C, D, H, W) to (B, 1)
        """A logit, larger for real."""
        return self.decide(self.encoder(image).mean((2, 3, 4)))
