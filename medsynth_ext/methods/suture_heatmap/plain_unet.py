"""The plain U-Nets: the light network of the method and the challenge's baseline."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ConvBlock", "PlainUNet", "kaiming_init"]


def kaiming_init(network: nn.Module) -> None:
    """Draw the weights of all convolutions by He's rule for ReLU."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class ConvBlock(nn.Sequential):
    """Two 3 x 3 convolutions, each with batch norm and ReLU; ``norm_last`` puts the norm behind the ReLU."""

    def __init__(self, channels: int, out: int, *, norm_last: bool = False, dropout: float = 0.0) -> None:
        layers: list[nn.Module] = []
        for a, b in ((channels, out), (out, out)):
            layers.append(nn.Conv2d(a, b, 3, padding=1, bias=norm_last))
            layers += [nn.ReLU(), nn.BatchNorm2d(b)] if norm_last else [nn.BatchNorm2d(b), nn.ReLU()]
            if dropout:
                layers.append(nn.Dropout(dropout))
        super().__init__(*layers)


class PlainUNet(nn.Module):
    """Convolution blocks, max-pooling, bilinear up-sampling, skips that are concatenated.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits.
        features: channels per level, the deepest last.
        norm_last: convolution, ReLU, batch norm, as the challenge's baseline has them.
        dropout: share of values that are dropped after each convolution.

    Shapes: ``(B, in_channels, H, W)`` to ``(B, out_channels, H, W)``; H and W divisible by 2 to the number of levels
    less one.

    Raises:
        ValueError: for fewer than two levels.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        *,
        features: Sequence[int] = (16, 32, 64, 128, 256, 512),
        norm_last: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(features) < 2:
            raise ValueError(f"features must hold at least two numbers, got {list(features)}")
        options: dict[str, Any] = {"norm_last": norm_last, "dropout": dropout}
        self.down = nn.ModuleList(ConvBlock(a, b, **options) for a, b in pairwise([in_channels, *features]))
        self.up = nn.ModuleList(ConvBlock(a + b, a, **options) for a, b in reversed(list(pairwise(features))))
        self.head = nn.Conv2d(features[0], out_channels, 1)
        kaiming_init(self)

    def forward(self, image: Tensor) -> Tensor:
        maps: list[Tensor] = []
        x = image
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            maps.append(x)
        for level, block in enumerate(self.up):
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = block(torch.cat([x, maps[len(maps) - 2 - level]], 1))
        return self.head(x)
