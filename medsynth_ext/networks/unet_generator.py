"""The U-Net generator of paired translation (Isola et al., CVPR 2017)."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Conv, Norm
from monai.networks.utils import normal_init
from torch import Tensor, nn

__all__ = ["UNetGenerator"]


class _Level(nn.Module):
    """Halve, go one level deeper, double; what came in and what comes out are concatenated, but for the outer level.

    Args:
        spatial_dims: 2 or 3.
        outside: channels that come in.
        inside: channels below.
        out_channels: channels that come out, before the concatenation.
        below: the level below; ``None`` for the innermost.
        outer: whether this is the outermost level.
        dropout: probability on the way up.
    """

    def __init__(
        self,
        spatial_dims: int,
        outside: int,
        inside: int,
        out_channels: int,
        below: nn.Module | None,
        *,
        outer: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        conv, up = Conv["conv", spatial_dims], Conv["convtrans", spatial_dims]
        norm = Norm["instance", spatial_dims]
        layers: list[nn.Module] = [] if outer else [nn.LeakyReLU(0.2)]
        layers.append(conv(outside, inside, 4, stride=2, padding=1))
        if below is not None:
            layers += [below] if outer else [norm(inside), below]
        layers += [nn.ReLU(), up(inside if below is None else 2 * inside, out_channels, 4, stride=2, padding=1)]
        if not outer:
            layers.append(norm(out_channels))
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
        self.outer = outer
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return y if self.outer else torch.cat([x, y], 1)


class UNetGenerator(nn.Module):
    """4 x 4 convolutions of stride 2 down to the bottom and back, with skips at every level; tanh at the end.

    Instance norm without parameters; the first convolution and the innermost one have none. The channels double from
    level to level up to 8 times ``features``. Dropout on the levels whose channels are widest is the method's only
    source of randomness. First weights are normal with a deviation of 0.02.

    Args:
        spatial_dims: 2 or 3.
        in_channels: of the image.
        out_channels: of the translated image, in [-1, 1].
        features: channels of the first convolution.
        num_downs: levels; the sides of an image must be multiples of 2 to their power (9 for 512 pixels).
        dropout: probability on the way up, at the inner levels but the innermost; in training only.

    Raises:
        ValueError: for fewer than 2 levels, or dropout outside [0, 1).
    """

    def __init__(
        self,
        *,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 1,
        features: int = 64,
        num_downs: int = 9,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if num_downs < 2:
            raise ValueError(f"num_downs must be at least 2, got {num_downs}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {dropout}")
        self.multiple = 2**num_downs
        widths = [features * 2 ** min(i, 3) for i in range(num_downs)]
        level = _Level(spatial_dims, widths[-2], widths[-1], widths[-2], None)
        for i in range(num_downs - 2, 0, -1):
            drop = dropout if i > 3 else 0.0
            level = _Level(spatial_dims, widths[i - 1], widths[i], widths[i - 1], level, dropout=drop)
        self.levels = _Level(spatial_dims, in_channels, widths[0], out_channels, level, outer=True)
        self.apply(normal_init)

    def forward(self, x: Tensor) -> Tensor:
        """Translate images in [-1, 1].

        Raises:
            ValueError: for a size that the strides do not divide.
        """
        sides = list(x.shape[2:])  # in a form that TorchScript understands
        for side in sides:
            if side % self.multiple:
                raise ValueError(f"the sides of an image must be multiples of {self.multiple}, got {sides}")
        return torch.tanh(self.levels(x))
