"""A U-Net whose encoder is ResNeXt-50 (32 x 4d)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsynth_ext.methods.suture_heatmap.plain_unet import ConvBlock, kaiming_init

__all__ = ["ResNeXt50", "ResNeXtUNet"]

_EXPANSION = 4


class _Bottleneck(nn.Module):
    """1 x 1, grouped 3 x 3 (which strides) and 1 x 1 convolution beside a shortcut."""

    def __init__(self, channels: int, planes: int, *, groups: int, base_width: int, stride: int) -> None:
        super().__init__()
        width, out = planes * base_width // 64 * groups, planes * _EXPANSION
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class ResNeXt50(nn.Module):
    """The convolutions of ResNeXt-50 (Xie et al., CVPR 2017), giving the maps of all its levels.

    Parameters are named as in torchvision's ``resnext50_32x4d``, so weights of one's own fit.

    Args:
        in_channels: channels of the image.
        groups: cardinality.
        base_width: channels of a group in the first stage.
        blocks: bottlenecks per stage.

    Attributes:
        out_channels: channels at 1/2, 1/4, 1/8, 1/16 and 1/32 of the size.
    """

    def __init__(
        self, in_channels: int = 3, *, groups: int = 32, base_width: int = 4, blocks: Sequence[int] = (3, 4, 6, 3)
    ) -> None:
        super().__init__()
        if len(blocks) != 4:
            raise ValueError(f"blocks must be four numbers, one a stage, got {list(blocks)}")
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        channels, stages = 64, []
        for stage, count in enumerate(blocks):
            planes = 64 * 2**stage
            layers = []
            for block in range(count):
                stride = 2 if block == 0 and stage else 1
                layers.append(_Bottleneck(channels, planes, groups=groups, base_width=base_width, stride=stride))
                channels = planes * _EXPANSION
            stages.append(nn.Sequential(*layers))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.out_channels = (64, 256, 512, 1024, 2048)

    def forward(self, image: Tensor) -> list[Tensor]:
        x = F.relu(self.bn1(self.conv1(image)))
        maps = [x]
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps


class ResNeXtUNet(nn.Module):
    """ResNeXt-50 encoder; five times nearest up-sampling, the skip, and two convolutions with batch norm and ReLU.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits.
        decoder: channels of the five decoder blocks; the last has no skip.
        encoder: options of ``ResNeXt50``.

    Shapes: ``(B, in_channels, H, W)`` to ``(B, out_channels, H, W)``; H and W divisible by 32.

    Raises:
        ValueError: for another number of decoder blocks.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        *,
        decoder: Sequence[int] = (256, 128, 64, 32, 16),
        encoder: dict | None = None,
    ) -> None:
        super().__init__()
        if len(decoder) != 5:
            raise ValueError(f"decoder must be five numbers, got {list(decoder)}")
        self.encoder = ResNeXt50(in_channels, **(encoder or {}))
        skips = [*reversed(self.encoder.out_channels[:-1]), 0]
        below = [self.encoder.out_channels[-1], *decoder[:-1]]
        self.decoder = nn.ModuleList(ConvBlock(b + s, c) for b, s, c in zip(below, skips, decoder, strict=True))
        self.head = nn.Conv2d(decoder[-1], out_channels, 1)
        kaiming_init(self)

    def forward(self, image: Tensor) -> Tensor:
        maps = self.encoder(image)
        x = maps[4]
        for i, block in enumerate(self.decoder):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            if i < 4:
                x = torch.cat([x, maps[3 - i]], 1)
            x = block(x)
        return self.head(x)
