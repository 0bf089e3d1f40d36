"""The conditional generator that turns a coarse slice and a label slice into a CT slice."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

__all__ = ["Spade", "SpadeBlock", "SpadeGenerator"]

_EPS = 1e-5


class Spade(nn.Module):
    """Spatially adaptive normalisation (Park et al., CVPR 2019): ``norm(x) (1 + gamma) + beta``.

    gamma and beta are plain convolutions of a rectified convolution of the condition, so a constant channel of the
    condition reaches them. The norm of ``x`` has no parameters of its own.

    Args:
        channels: of ``x``.
        condition: channels of the condition.
        hidden: channels of the shared convolution.
        norm: ``instance``, or ``batch`` (statistics of the batch, in training and when sampling alike).

    Raises:
        ValueError: for another norm.
    """

    def __init__(self, channels: int, condition: int, *, hidden: int = 128, norm: str = "instance") -> None:
        super().__init__()
        if norm not in ("instance", "batch"):
            raise ValueError(f"norm must be 'instance' or 'batch', got {norm!r}")
        self.axes = (2, 3) if norm == "instance" else (0, 2, 3)
        self.shared = nn.Conv2d(condition, hidden, 3, padding=1)
        self.gamma = nn.Conv2d(hidden, channels, 3, padding=1)
        self.beta = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:  # (B, C, H, W), (B, condition, any, any)
        # By hand, since instance norms of torch refuse a single pixel, which is where small slices start.
        var, mean = torch.var_mean(x, self.axes, correction=0, keepdim=True)
        hidden = F.relu(self.shared(F.interpolate(condition, x.shape[2:], mode="nearest")))
        return (x - mean) * (var + _EPS).rsqrt() * (1 + self.gamma(hidden)) + self.beta(hidden)


class SpadeBlock(nn.Module):
    """Two normalised convolutions beside a shortcut, which is a 1 x 1 convolution where the channels change."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        condition: int,
        *,
        hidden: int = 128,
        norm: str = "instance",
        slope: float = 0.2,
    ) -> None:
        super().__init__()
        middle = min(in_channels, out_channels)
        self.slope = slope
        self.conv0 = spectral_norm(nn.Conv2d(in_channels, middle, 3, padding=1))
        self.conv1 = spectral_norm(nn.Conv2d(middle, out_channels, 3, padding=1))
        self.norm0 = Spade(in_channels, condition, hidden=hidden, norm=norm)
        self.norm1 = Spade(middle, condition, hidden=hidden, norm=norm)
        self.learned_shortcut = in_channels != out_channels
        if self.learned_shortcut:
            self.conv_shortcut = spectral_norm(nn.Conv2d(in_channels, out_channels, 1, bias=False))
            self.norm_shortcut = Spade(in_channels, condition, hidden=hidden, norm=norm)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        y = self.conv0(F.leaky_relu(self.norm0(x, condition), self.slope))
        y = self.conv1(F.leaky_relu(self.norm1(y, condition), self.slope))
        return y + (self.conv_shortcut(self.norm_shortcut(x, condition)) if self.learned_shortcut else x)


class SpadeGenerator(nn.Module):
    """Condition to image in (-1, 1): seven blocks with five doublings, from 1/32 of the image's side.

    Args:
        condition: channels of the condition; 3 = coarse CT, label, slice position.
        size: side of the image, a multiple of 32.
        features: channels of the last block; the first ones have 16 times as many.
        hidden: channels inside each :class:`Spade`.
        norm: see :class:`Spade`.
        slope: of the leaky rectifiers.

    Raises:
        ValueError: for a size that is not a multiple of 32, or a condition that does not fit.
    """

    def __init__(
        self,
        condition: int = 3,
        *,
        size: int = 128,
        features: int = 64,
        hidden: int = 128,
        norm: str = "instance",
        slope: float = 0.2,
    ) -> None:
        super().__init__()
        if size % 32:
            raise ValueError(f"size must be a multiple of 32, got {size}")
        self.condition, self.size, self.slope = condition, size, slope
        wide = 16 * features
        channels = [(wide, wide)] * 3 + [(wide >> i, wide >> (i + 1)) for i in range(4)]
        self.stem = nn.Conv2d(condition, wide, 3, padding=1)
        self.blocks = nn.ModuleList(
            SpadeBlock(a, b, condition, hidden=hidden, norm=norm, slope=slope) for a, b in channels
        )
        self.head = nn.Conv2d(features, 1, 3, padding=1)

    def forward(self, condition: Tensor) -> Tensor:  # (B, condition, size, size) -> (B, 1, size, size)
        if tuple(condition.shape[1:]) != (self.condition, self.size, self.size):
            raise ValueError(
                f"condition must be (B, {self.condition}, {self.size}, {self.size}), got {tuple(condition.shape)}"
            )
        start = self.size // 32
        x = self.stem(F.interpolate(condition, (start, start), mode="nearest"))
        for i, block in enumerate(self.blocks):
            x = block(x, condition)
            # Doubled after every block but the second and the last.
            if i in (0, 2, 3, 4, 5):
                x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return torch.tanh(self.head(F.leaky_relu(x, self.slope)))
