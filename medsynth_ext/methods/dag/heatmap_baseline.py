"""The heatmap method that the graph is compared with: SpatialConfiguration-Net (Payer et al., MedIA 2019)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsynth_ext import ops

__all__ = ["HeatmapLoss", "SpatialConfigurationNet"]


class _OthersConv(nn.Module):
    """For every landmark a convolution over the maps of all others."""

    def __init__(self, n_points: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_points, n_points, kernel, padding=kernel // 2)
        self.others: Tensor
        self.register_buffer("others", (1 - torch.eye(n_points))[:, :, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.conv.weight * self.others, self.conv.bias, padding=self.conv.padding)


class SpatialConfigurationNet(nn.Module):
    """Local appearance times the configuration of the other landmarks.

    Args:
        n_points: number of landmarks N.
        channels: of the hidden layers; 128 in the paper.
        layers: hidden 5 x 5 convolutions.
        factor: by which the local maps are shrunk before the configuration is looked at.
        kernel: side of the configuration's convolutions.

    Shapes: ``(B, 1, H, W)``, sides multiples of ``factor``, to ``(B, N, H, W)``.
    """

    def __init__(
        self, n_points: int, *, channels: int = 128, layers: int = 3, factor: int = 8, kernel: int = 15
    ) -> None:
        super().__init__()
        hidden: list[nn.Module] = []
        for first in [1] + [channels] * (layers - 1):
            hidden += [nn.Conv2d(first, channels, 5, padding=2), nn.ReLU(inplace=True)]
        self.appearance = nn.Sequential(*hidden, nn.Conv2d(channels, n_points, 5, padding=2))
        self.configuration = _OthersConv(n_points, kernel)
        self.factor = factor
        for module in self.appearance:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.appearance[-1].weight, std=1e-4)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Tensor:
        local = self.appearance(image)
        small = self.configuration(F.avg_pool2d(local, self.factor))
        return local * F.interpolate(small, size=local.shape[2:], mode="bilinear", align_corners=False)

    @torch.no_grad()
    def points(self, image: Tensor) -> Tensor:  # (B, N, 2) index coordinates
        """Sub-pixel maxima of the maps."""
        return ops.heatmap_peak(self(image).float(), refine="parabola")[0]


class HeatmapLoss:
    """Half the sum of squared differences to Gaussians of height 1, per image.

    Args:
        sigma: of the Gaussians, in pixels.
    """

    def __init__(self, sigma: float = 3.0) -> None:
        self.sigma = sigma

    def __call__(
        self,
        maps: Tensor,  # (B, N, H, W)
        points: Tensor,  # (B, N, 2) index coordinates, NaN where not visible: an empty map is wanted
    ) -> Tensor:  # scalar
        target = ops.render_gaussian_heatmaps(points.float(), self.sigma, maps.shape[2:])
        return (maps.float() - target).square().sum() / (2 * len(maps))
