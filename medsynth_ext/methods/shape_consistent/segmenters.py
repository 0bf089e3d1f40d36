"""Three segmenters with one encoder: U-Net, Refine-Net and PSP-Net, in 2D or 3D."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv, Norm, Pool
from torch import Tensor, nn

from medsynth_ext.methods.shape_consistent.padding import cut_to, pad_to_multiple

__all__ = ["PSPNet", "RefineNet", "SegmentationUNet", "make_segmenter"]


def _double(channels: int, out: int, dims: int) -> nn.Sequential:
    """Two convolutions of one resolution."""
    layers: list[nn.Module] = []
    for first in (channels, out):
        layers += [Conv["conv", dims](first, out, 3, padding=1), Norm["instance", dims](out), nn.ReLU()]
    return nn.Sequential(*layers)


class _Encoder(nn.Module):
    """Two convolutions per resolution and max-pooling between them."""

    def __init__(self, in_channels: int, features: Sequence[int], dims: int) -> None:
        super().__init__()
        before = [in_channels, *features[:-1]]
        self.levels = nn.ModuleList(_double(a, b, dims) for a, b in zip(before, features, strict=True))
        self.pool = Pool["max", dims](2)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features of every resolution, the finest first."""
        outputs: list[Tensor] = []
        for i, level in enumerate(self.levels):
            x = level(x if i == 0 else self.pool(x))
            outputs.append(x)
        return outputs


class SegmentationUNet(nn.Module):
    """U-Net: nearest up-sampling, concatenated skips, two convolutions per resolution (Cicek et al., MICCAI 2016).

    Args:
        in_channels: of the image.
        out_channels: classes, background included.
        spatial_dims: 2 or 3.
        features: channels per resolution, which is halved between them.

    Shapes: (B, in_channels, *S) in [-1, 1] to logits (B, out_channels, *S), any size; a side that the halvings do not
    divide is padded with -1 inside.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 6,
        *,
        spatial_dims: int = 3,
        features: Sequence[int] = (32, 64, 128, 256),
    ) -> None:
        super().__init__()
        self.encoder = _Encoder(in_channels, features, spatial_dims)
        pairs = list(zip(features[:0:-1], features[-2::-1], strict=True))
        self.up = nn.ModuleList(_double(deep + fine, fine, spatial_dims) for deep, fine in pairs)
        self.rise = nn.Upsample(scale_factor=2, mode="nearest")
        self.head = Conv["conv", spatial_dims](features[0], out_channels, 1)
        self.multiple = 2 ** (len(features) - 1)

    def forward(self, image: Tensor) -> Tensor:
        skips = self.encoder(pad_to_multiple(image, self.multiple, -1.0))
        x = skips[-1]
        for i, level in enumerate(self.up):
            x = level(torch.cat([skips[len(skips) - 2 - i], self.rise(x)], 1))
        return cut_to(self.head(x), image)


class _ResidualUnit(nn.Module):
    """``x + conv(relu(conv(relu(x))))``."""

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        conv = Conv["conv", dims]
        self.layers = nn.Sequential(
            nn.ReLU(), conv(channels, channels, 3, padding=1), nn.ReLU(), conv(channels, channels, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class _RefineUnit(nn.Module):
    """Residual units on every input, their fusion at the finest resolution, chained residual pooling, a residual unit.

    Args:
        channels: of the inputs, the finest first.
        width: of the output.
        dims: 2 or 3.
    """

    def __init__(self, channels: Sequence[int], width: int, dims: int) -> None:
        super().__init__()
        conv = Conv["conv", dims]
        self.adapt = nn.ModuleList(
            nn.Sequential(_ResidualUnit(c, dims), _ResidualUnit(c, dims), conv(c, width, 3, padding=1))
            for c in channels
        )
        self.rise = nn.Upsample(scale_factor=2, mode="nearest")
        self.act = nn.ReLU()
        self.chain = nn.ModuleList(
            nn.Sequential(Pool["max", dims](5, stride=1, padding=2), conv(width, width, 3, padding=1)) for _ in range(2)
        )
        self.last = _ResidualUnit(width, dims)

    def forward(self, inputs: list[Tensor]) -> Tensor:
        fused = inputs[0]
        for i, adapt in enumerate(self.adapt):
            fused = adapt(inputs[i]) if i == 0 else fused + self.rise(adapt(inputs[i]))
        x = self.act(fused)
        pooled = x
        for link in self.chain:
            pooled = link(pooled)
            x = x + pooled
        return self.last(x)


class RefineNet(nn.Module):
    """Refine-Net: a refine unit per resolution on the way up (Lin et al., CVPR 2017).

    Args:
        in_channels: of the image.
        out_channels: classes, background included.
        spatial_dims: 2 or 3.
        features: channels per resolution of the encoder. The units have half of the last of them at the bottom, halved
            from resolution to resolution.

    Shapes: as :class:`SegmentationUNet`.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 6,
        *,
        spatial_dims: int = 3,
        features: Sequence[int] = (32, 64, 128, 256),
    ) -> None:
        super().__init__()
        self.encoder = _Encoder(in_channels, features, spatial_dims)
        self.up = nn.ModuleList()
        below: list[int] = []
        width = features[-1]
        for channels in reversed(features):
            width = max(width // 2, 1)
            self.up.append(_RefineUnit([channels, *below], width, spatial_dims))
            below = [width]
        self.head = Conv["conv", spatial_dims](width, out_channels, 1)
        self.multiple = 2 ** (len(features) - 1)

    def forward(self, image: Tensor) -> Tensor:
        skips = self.encoder(pad_to_multiple(image, self.multiple, -1.0))
        x = skips[-1]
        for i, unit in enumerate(self.up):
            x = unit([x]) if i == 0 else unit([skips[len(skips) - 1 - i], x])
        return cut_to(self.head(x), image)


class PSPNet(nn.Module):
    """PSP-Net: means over cells of several sizes beside the deepest features (Zhao et al., CVPR 2017).

    Args:
        in_channels: of the image.
        out_channels: classes, background included.
        spatial_dims: 2 or 3.
        features: channels per resolution of the encoder.
        cells: cells per axis of every branch, which has an equal part of the last of the features.

    Shapes: as :class:`SegmentationUNet`.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 6,
        *,
        spatial_dims: int = 3,
        features: Sequence[int] = (32, 64, 128, 256),
        cells: Sequence[int] = (1, 2, 4),
    ) -> None:
        super().__init__()
        conv = Conv["conv", spatial_dims]
        self.encoder = _Encoder(in_channels, features, spatial_dims)
        deep = features[-1]
        part = max(deep // len(cells), 1)
        # No norm in the branches: one cell has no variance.
        self.branches = nn.ModuleList(
            nn.Sequential(Pool["adaptiveavg", spatial_dims](count), conv(deep, part, 1), nn.ReLU()) for count in cells
        )
        self.fuse = nn.Sequential(
            conv(deep + len(cells) * part, deep, 3, padding=1), Norm["instance", spatial_dims](deep), nn.ReLU()
        )
        self.head = conv(deep, out_channels, 1)
        self.mode = {2: "bilinear", 3: "trilinear"}[spatial_dims]
        self.multiple = 2 ** (len(features) - 1)

    def forward(self, image: Tensor) -> Tensor:
        padded = pad_to_multiple(image, self.multiple, -1.0)
        deep = self.encoder(padded)[-1]
        parts = [deep]
        for branch in self.branches:
            parts.append(F.interpolate(branch(deep), size=deep.shape[2:], mode=self.mode, align_corners=False))
        logits = self.head(self.fuse(torch.cat(parts, 1)))
        return cut_to(F.interpolate(logits, size=padded.shape[2:], mode=self.mode, align_corners=False), image)


_KINDS: dict[str, type[nn.Module]] = {"psp": PSPNet, "unet": SegmentationUNet, "refine": RefineNet}


def make_segmenter(kind: str, **options: Any) -> nn.Module:
    """One of the three, by name: ``psp``, ``unet`` or ``refine``, in the order of their capacity.

    Args:
        kind: which.
        options: ``in_channels``, ``out_channels``, ``spatial_dims``, ``features``.

    Raises:
        ValueError: for another name.
    """
    if kind not in _KINDS:
        raise ValueError(f"kind must be one of {', '.join(_KINDS)}, got {kind!r}")
    network = _KINDS[kind](**options)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return network
