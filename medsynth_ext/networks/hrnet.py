"""HRNetV2: a fine and ever coarser maps side by side, mixed again and again (Wang et al., TPAMI 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.layers import get_norm_layer
from torch import Tensor, nn

__all__ = ["HRNet"]


Norm = str | tuple[str, dict[str, Any]]  # as MONAI's layers take it


def _conv(first: int, second: int, *, norm: Norm, kernel: int = 3, stride: int = 1, relu: bool = True) -> nn.Sequential:
    conv = nn.Conv2d(first, second, kernel, stride=stride, padding=kernel // 2, bias=False)
    layers = [conv, get_norm_layer(norm, spatial_dims=2, channels=second)]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if relu else []))


class _Residual(nn.Module):
    """``ReLU(body(x) + shortcut(x))``."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x), inplace=True)


def _basic(channels: int, norm: Norm) -> _Residual:
    body = nn.Sequential(_conv(channels, channels, norm=norm), _conv(channels, channels, norm=norm, relu=False))
    return _Residual(body, nn.Identity())


def _bottleneck(first: int, inner: int, norm: Norm) -> _Residual:
    outer = 4 * inner
    body = nn.Sequential(
        _conv(first, inner, norm=norm, kernel=1),
        _conv(inner, inner, norm=norm),
        _conv(inner, outer, norm=norm, kernel=1, relu=False),
    )
    return _Residual(body, nn.Identity() if first == outer else _conv(first, outer, norm=norm, kernel=1, relu=False))


class _Fusion(nn.Module):
    """The rectified sum of all branches, each brought to the size and channels of one of them."""

    def __init__(self, channels: Sequence[int], target: int, norm: Norm) -> None:
        super().__init__()
        self.paths = nn.ModuleList(self._path(channels, source, target, norm) for source in range(len(channels)))

    @staticmethod
    def _path(channels: Sequence[int], source: int, target: int, norm: Norm) -> nn.Module:
        first, second = channels[source], channels[target]
        if source > target:
            up = nn.Upsample(scale_factor=2.0 ** (source - target), mode="nearest")
            return nn.Sequential(_conv(first, second, norm=norm, kernel=1, relu=False), up)
        if source == target:
            return nn.Identity()
        halvings = [_conv(first, first, norm=norm, stride=2) for _ in range(target - source - 1)]
        return nn.Sequential(*halvings, _conv(first, second, norm=norm, stride=2, relu=False))

    def forward(self, branches: list[Tensor]) -> Tensor:
        brought: list[Tensor] = []
        for i, path in enumerate(self.paths):
            brought.append(path(branches[i]))
        total = brought[0]
        for branch in brought[1:]:
            total = total + branch
        return F.relu(total)


class _ExchangeModule(nn.Module):
    """Basic blocks on every branch, then every branch gets the sum of all."""

    def __init__(self, channels: Sequence[int], blocks: int, norm: Norm) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*[_basic(c, norm) for _ in range(blocks)]) for c in channels)
        self.fusions = nn.ModuleList(_Fusion(channels, i, norm) for i in range(len(channels)))

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        deeper: list[Tensor] = []
        for i, branch in enumerate(self.branches):
            deeper.append(branch(branches[i]))
        mixed: list[Tensor] = []
        for fusion in self.fusions:
            mixed.append(fusion(deeper))
        return mixed


class _Stage(nn.Module):
    """One more branch than before, grown from the coarsest one, then exchange modules.

    Args:
        before: channels of the branches that come in.
        channels: those of the stage; as many, and one.
        modules: number of exchange modules.
        blocks: basic blocks per branch of each.
        norm: of all convolutions.
    """

    def __init__(self, before: Sequence[int], channels: Sequence[int], modules: int, blocks: int, norm: Norm) -> None:
        super().__init__()
        kept = [nn.Identity() if a == b else _conv(a, b, norm=norm) for a, b in zip(before, channels[:-1], strict=True)]
        self.transitions = nn.ModuleList([*kept, _conv(before[-1], channels[-1], norm=norm, stride=2)])
        self.exchanges = nn.ModuleList(_ExchangeModule(channels, blocks, norm) for _ in range(modules))

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        widened: list[Tensor] = []
        last = len(branches) - 1
        for i, transition in enumerate(self.transitions):
            widened.append(transition(branches[min(i, last)]))
        for exchange in self.exchanges:
            widened = exchange(widened)
        return widened


class HRNet(nn.Module):
    """Features of a 2D image at a quarter of its size from branches of stride 4, 8, 16 and 32.

    Stem of two strided convolutions, a stage of bottlenecks, then three stages of exchange modules with two, three and
    four branches of ``width``, 2, 4 and 8 times ``width`` channels; the branches are brought to the finest one's size
    (bilinear) and put side by side. With the default counts and ``width=18`` this is HRNetV2-W18.

    Args:
        in_channels: channels of the image.
        width: channels of the finest branch; 18, 32 and 48 in the paper.
        stem_channels: channels of the stem and of the bottlenecks' inside; 64 in the paper.
        modules: exchange modules of the last three stages.
        blocks: bottlenecks of the first stage, then basic blocks per branch of a module of the others.
        norm: of all convolutions, a name or a name and its options as MONAI's layers take it.

    Shapes: ``(B, in_channels, H, W)`` to ``(B, out_channels, H / 4, W / 4)``, H and W multiples of 32.

    Raises:
        ValueError: for another number of stages, and for images of another size.
    """

    def __init__(
        self,
        in_channels: int = 3,
        *,
        width: int = 18,
        stem_channels: int = 64,
        modules: Sequence[int] = (1, 4, 3),
        blocks: Sequence[int] = (4, 4, 4, 4),
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        if len(modules) != 3 or len(blocks) != 4 or min(*modules, *blocks) < 1:
            raise ValueError(f"modules must be 3 and blocks 4 positive numbers, got {list(modules)} and {list(blocks)}")
        if min(in_channels, width, stem_channels) < 1:
            raise ValueError(
                f"in_channels, width and stem_channels must be positive, got {in_channels}, {width} and {stem_channels}"
            )
        channels = [width * 2**i for i in range(4)]
        self.out_channels = sum(channels)
        outer = 4 * stem_channels
        self.stem = nn.Sequential(
            _conv(in_channels, stem_channels, norm=norm, stride=2),
            _conv(stem_channels, stem_channels, norm=norm, stride=2),
        )
        inputs = [stem_channels] + [outer] * (blocks[0] - 1)
        self.first = nn.Sequential(*[_bottleneck(c, stem_channels, norm) for c in inputs])
        branches = [[outer], *(channels[:n] for n in (2, 3, 4))]
        self.stages = nn.ModuleList(
            _Stage(before, after, m, b, norm)
            for (before, after), m, b in zip(pairwise(branches), modules, blocks[1:], strict=True)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def branches(self, image: Tensor) -> list[Tensor]:  # (B, width * 2**i, H / 4 / 2**i, W / 4 / 2**i)
        """The last outputs of the four branches, the finest first."""
        height, width = image.shape[2], image.shape[3]
        if height % 32 != 0 or width % 32 != 0 or min(height, width) < 32:
            raise ValueError(f"image must have sides that are multiples of 32, got {height} x {width}: pad it")
        found = [self.first(self.stem(image))]
        for stage in self.stages:
            found = stage(found)
        return found

    def forward(self, image: Tensor) -> Tensor:
        found = self.branches(image)
        size = [found[0].shape[2], found[0].shape[3]]
        maps = [found[0]]
        for branch in found[1:]:
            maps.append(F.interpolate(branch, size=size, mode="bilinear", align_corners=False))
        return torch.cat(maps, 1)
