"""The residual 2-D U-Net of FBPAug."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ResidualUNet2D"]


class _Block(nn.Module):
    """Batch norm, ReLU and a 3 x 3 convolution, twice, beside a shortcut."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(first), nn.BatchNorm2d(second)
        self.conv1 = nn.Conv2d(first, second, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(second, second, 3, padding=1, bias=False)
        self.shortcut = nn.Identity() if first == second else nn.Conv2d(first, second, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.norm1(x)))
        return self.shortcut(x) + self.conv2(F.relu(self.norm2(y)))


def _blocks(*channels: int) -> nn.Sequential:
    return nn.Sequential(*[_Block(a, b) for a, b in pairwise(channels)])


class ResidualUNet2D(nn.Module):
    """Pre-activation residual blocks, max-pooling, and skips that are added.

    With features ``f0, f1, ...`` level i on the way down has the blocks ``fi - fi - f(i+1)``, the bridge ``fn - 2 fn
    - fn``, and on the way up the input is resized to the skip, the two are added, and the blocks are
    ``f(i+1) - fi - fi``.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits.
        features: channels per level, and those of the deepest level last.

    Shapes: ``(B, in_channels, H, W)`` to ``(B, out_channels, H, W)``, any size.

    Raises:
        ValueError: for fewer than two features.
    """

    def __init__(
        self, in_channels: int = 1, out_channels: int = 1, *, features: Sequence[int] = (8, 16, 32, 64, 128, 256)
    ) -> None:
        super().__init__()
        if len(features) < 2:
            raise ValueError(f"features must hold at least two numbers, got {list(features)}")
        levels = list(pairwise(features))
        self.stem = nn.Conv2d(in_channels, features[0], 3, padding=1, bias=False)
        self.down = nn.ModuleList(_blocks(a, a, b) for a, b in levels)
        self.bridge = _blocks(features[-1], 2 * features[-1], features[-1])
        self.up = nn.ModuleList(_blocks(b, a, a) for a, b in reversed(levels))
        # The skip has the channels of the level below, as has what comes up.
        self.last = _Block(features[0], features[0])
        self.head = nn.Sequential(nn.BatchNorm2d(features[0]), nn.ReLU(), nn.Conv2d(features[0], out_channels, 1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        skips: list[Tensor] = []
        for blocks in self.down:
            x = blocks(x)
            skips.append(x)
            x = F.max_pool2d(x, 2, ceil_mode=True)
        x = self.bridge(x)
        for i, blocks in enumerate(self.up):
            skip = skips[len(skips) - 1 - i]
            x = F.interpolate(x, size=skip.shape[2:], mode="bilinear", align_corners=False)
            x = blocks(torch.add(x, skip))
        return self.head(self.last(x))
