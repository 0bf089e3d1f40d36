"""The block of all networks of the method: two convolutions, each normalised and gated."""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn

__all__ = ["NORMS", "PADDING", "ConvBlock", "glorot_uniform", "make_norm"]

PADDING: Final = "replicate"  # of all convolutions; reflection, as published, needs more than one pixel
NORMS = ("batch", "instance")


def make_norm(kind: str, channels: int) -> nn.Module:
    """A two-dimensional norm with learned scale and offset.

    Raises:
        ValueError: for another kind.
    """
    if kind not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {kind!r}")
    return nn.BatchNorm2d(channels) if kind == "batch" else nn.InstanceNorm2d(channels, affine=True)


class ConvBlock(nn.Module):
    """Twice: 3x3 convolution, norm, swish.

    Border values go on outside (Huang and Belongie, ICCV 2017, reflect): behind AdaIN a channel's mean is far from
    zero, and zeros around it would be an edge that depends on the style.
    """

    def __init__(self, in_channels: int, out_channels: int, *, norm: str = "batch") -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in (in_channels, out_channels):
            layers += [
                nn.Conv2d(channels, out_channels, 3, padding=1, padding_mode=PADDING),
                make_norm(norm, out_channels),
                nn.SiLU(),
            ]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        return self.layers(x)


def glorot_uniform(network: nn.Module) -> None:
    """First weights of all convolutions and linear layers as Keras draws them, with zero biases."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
