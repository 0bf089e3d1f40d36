"""The network: a backbone of stride 4 and a head that gives heatmaps at the size of the frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from monai.networks.layers import get_norm_layer
from torch import Tensor, nn

__all__ = ["PointHeatmapNet"]


class PointHeatmapNet(nn.Module):
    """Linear heatmaps of a frame: 1 x 1 convolution, norm, ReLU, 1 x 1 convolution, bilinear to full size.

    How many points frames of the target domain have is a buffer, ``count_bounds``, so that it travels with the weights:
    what is decoded with a network is bounded by what the network was trained on.

    Args:
        backbone: from a frame to features of a quarter of its size; has ``out_channels``.
        out_channels: heatmaps; the first one is that of the points.
        norm: the head's normalisation, a name or a name and its options as MONAI's layers take it.

    Shapes: ``(B, 3, H, W)`` to ``(B, out_channels, H, W)``, sizes as the backbone takes them.
    """

    if TYPE_CHECKING:  # TorchScript cannot read the annotation of a buffer
        count_bounds: Tensor  # (2,) int64: fewest and most points

    def __init__(
        self, backbone: nn.Module, *, out_channels: int = 1, norm: str | tuple[str, dict[str, Any]] = "batch"
    ) -> None:
        super().__init__()
        channels = int(backbone.out_channels)  # type: ignore[arg-type]
        self.backbone = backbone
        self.head = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False),
            get_norm_layer(norm, spatial_dims=2, channels=channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, out_channels, 1),
        )
        nn.init.kaiming_normal_(self.head[0].weight, nonlinearity="relu")  # type: ignore[arg-type]
        # Nearly all of a target is 0: anything else would have to be unlearned first.
        nn.init.normal_(self.head[-1].weight, std=0.001)  # type: ignore[arg-type]
        nn.init.zeros_(self.head[-1].bias)  # type: ignore[arg-type]
        self.register_buffer("count_bounds", torch.tensor([0, 2**31]))

    def set_count_bounds(self, lower: int, upper: int) -> None:
        """Keep how many points a frame has with the weights.

        Raises:
            ValueError: unless ``0 <= lower <= upper``.
        """
        if not 0 <= lower <= upper:
            raise ValueError(f"lower and upper must be in order and not negative, got {lower} and {upper}")
        self.count_bounds.copy_(torch.tensor([lower, upper]))

    def features(self, frame: Tensor) -> Tensor:  # (B, C, H / 4, W / 4)
        """What the backbone sees."""
        return self.backbone(frame)

    def heatmaps(self, features: Tensor) -> Tensor:
        """The head alone."""
        return F.interpolate(self.head(features), scale_factor=4.0, mode="bilinear", align_corners=False)

    def forward(self, frame: Tensor) -> Tensor:
        return self.heatmaps(self.features(frame))
