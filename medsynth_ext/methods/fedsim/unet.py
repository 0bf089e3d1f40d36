"""The 3D U-Net that finds the heart."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["HeartUNet"]


class HeartUNet(nn.Module):
    """3D U-Net (Cicek et al., MICCAI 2016): the second convolution of a level doubles its channels.

    Level i has convolutions of ``features[i]`` and ``2 features[i]`` channels and is followed by max-pooling. On the
    way up, an up-convolution keeps the channels, the skip is concatenated, and two convolutions bring the channels to
    twice the level's features.

    Args:
        in_channels: of the image.
        out_channels: classes, background included.
        features: per level; the paper's are 32, 64, 128, 256.
        norm: ``instance`` (for one volume per batch) or ``batch`` (the paper's).

    Shapes: (B, in_channels, D, H, W) of any size to logits of the same size; it is padded to a multiple of
    ``2 ** (levels - 1)`` inside.

    Raises:
        ValueError: for another norm.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        *,
        features: Sequence[int] = (32, 64, 128, 256),
        norm: str = "instance",
    ) -> None:
        super().__init__()
        if norm not in ("instance", "batch"):
            raise ValueError(f"norm must be 'instance' or 'batch', got {norm!r}")
        kind = nn.BatchNorm3d if norm == "batch" else nn.InstanceNorm3d

        def pair(first: int, second: int, third: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for a, b in ((first, second), (second, third)):
                layers += [nn.Conv3d(a, b, 3, padding=1, bias=False), kind(b, affine=True), nn.ReLU(inplace=True)]
            return nn.Sequential(*layers)

        before = [in_channels, *(2 * f for f in features[:-1])]
        self.down = nn.ModuleList(pair(a, f, 2 * f) for a, f in zip(before, features, strict=True))
        deeper = [2 * f for f in features[1:]]
        self.lift = nn.ModuleList(nn.ConvTranspose3d(c, c, 2, stride=2) for c in reversed(deeper))
        self.up = nn.ModuleList(
            pair(c + 2 * f, 2 * f, 2 * f) for c, f in zip(reversed(deeper), reversed(features[:-1]), strict=True)
        )
        self.head = nn.Conv3d(2 * features[0], out_channels, 1)
        self.multiple = 2 ** (len(features) - 1)

    def forward(self, image: Tensor) -> Tensor:
        size = image.shape[2:]
        margins = [int((-n) % self.multiple) for n in size]
        x = F.pad(image, (0, margins[2], 0, margins[1], 0, margins[0]))
        skips = []
        for i, block in enumerate(self.down):
            x = block(x if i == 0 else F.max_pool3d(x, 2))
            skips.append(x)
        for i, (lift, block) in enumerate(zip(self.lift, self.up, strict=True)):
            x = block(torch.cat([skips[len(skips) - 2 - i], lift(x)], 1))
        return self.head(x)[:, :, : size[0], : size[1], : size[2]]
