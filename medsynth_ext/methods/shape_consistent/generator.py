"""The short U-Net that translates volumes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from medsynth_ext.methods.shape_consistent.padding import cut_to, pad_to_multiple

__all__ = ["ShortUNetGenerator"]

_KINDS = ("nearest", "transposed")


class ShortUNetGenerator(nn.Module):
    """Three halvings, two convolutions per resolution, nearest up-sampling, instance norm, skips, tanh.

    With ``features`` (f1, f2, f3) the levels have f1 at half, f2 at a quarter and f3 at an eighth of the resolution; on
    the way up ``f2, f1, 2 f1``. The paper's (64, 256, 256) give 10.8 million parameters in 3D. Its table prints stride
    2 for the first convolution after every up-sampling; only stride 1 fits its own sizes and channels.

    Args:
        in_channels: of the image.
        out_channels: of its translation.
        spatial_dims: 2 or 3.
        features: channels of the three levels.
        upsampling: ``nearest``, or ``transposed`` convolutions, which leave checkerboards.
        act_before_down: a rectifier behind the second convolution of a level; the paper has none there.
        slope: of the leaky rectifiers.
        save_memory: compute the full resolution again in the backward pass instead of keeping it.

    Shapes: (B, in_channels, *S) in [-1, 1] to (B, out_channels, *S) in [-1, 1], any size; a side that is no multiple of
    8 is padded with -1 inside.

    Raises:
        ValueError: for other than three features, or another kind of up-sampling.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        *,
        spatial_dims: int = 3,
        features: Sequence[int] = (64, 256, 256),
        upsampling: str = "nearest",
        act_before_down: bool = False,
        slope: float = 0.2,
        save_memory: bool = False,
    ) -> None:
        if len(features) != 3:
            raise ValueError(f"features must be three numbers of channels, got {list(features)}")
        if upsampling not in _KINDS:
            raise ValueError(f"upsampling must be one of {', '.join(_KINDS)}, got {upsampling!r}")
        super().__init__()
        conv, norm = Conv["conv", spatial_dims], Norm["instance", spatial_dims]

        def normed(channels: int, out: int, stride: int = 1) -> list[nn.Module]:
            return [conv(channels, out, 3, stride=stride, padding=1), norm(out)]

        def doubled(channels: int) -> nn.Module:
            if upsampling == "nearest":
                return nn.Upsample(scale_factor=2, mode="nearest")
            return Conv["convtrans", spatial_dims](channels, channels, 4, stride=2, padding=1)

        f1, f2, f3 = features
        self.down = nn.ModuleList()
        for channels, out in ((in_channels, f1), (f1, f2), (f2, f3)):
            layers = [*normed(channels, out, 2), nn.LeakyReLU(slope), *normed(out, out)]
            self.down.append(nn.Sequential(*layers, *([nn.LeakyReLU(slope)] if act_before_down else [])))
        self.up = nn.ModuleList(
            nn.Sequential(
                nn.LeakyReLU(slope), doubled(channels), *normed(channels, out), nn.LeakyReLU(slope), *normed(out, out)
            )
            for channels, out in ((f3, f2), (2 * f2, f1))
        )
        self.full = nn.Sequential(
            nn.LeakyReLU(slope),
            doubled(2 * f1),
            *normed(2 * f1, 2 * f1),
            nn.LeakyReLU(slope),
            conv(2 * f1, out_channels, 3, padding=1),
            nn.Tanh(),
        )
        self.save_memory = save_memory

    def forward(self, image: Tensor) -> Tensor:
        x = pad_to_multiple(image, 8, -1.0)
        skips: list[Tensor] = []
        for level in self.down:
            x = level(x)
            skips.append(x)
        for i, level in enumerate(self.up):
            x = torch.cat([skips[1 - i], level(x)], 1)
        return cut_to(self._last(x), image)

    def _last(self, x: Tensor) -> Tensor:
        if not torch.jit.is_scripting() and self.save_memory and self.training:
            return self._again(x)
        return self.full(x)

    @torch.jit.unused
    def _again(self, x: Tensor) -> Tensor:
        return checkpoint(self.full, x, use_reentrant=False)
