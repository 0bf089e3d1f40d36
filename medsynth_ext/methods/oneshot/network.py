"""The small segmentation network of one-shot landmark detection."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["OneShotCNN"]


class OneShotCNN(nn.Module):
    """Fourteen layers with one level of down-sampling; gives a logit per pixel (the paper's sigmoid is in the loss).

    Four convolutions, max-pooling, two convolutions, up-sampling with a convolution, the fourth layer's output beside
    it, and five convolutions. All 3 x 3 with zero padding. The paper has no normalisation; ``norm`` adds batch
    normalisation, which learning rates above 1e-3 need. The last bias starts where ``prior`` is what comes out, as in
    Lin et al., Focal loss for dense object detection, ICCV 2017.

    Args:
        in_channels: channels of the slice.
        out_channels: channels of the logits.
        features: channels at full and at half resolution; 64 and 128 in the paper.
        norm: with batch normalisation.
        prior: probability of the structure that an untrained network gives everywhere. With one half, when few pixels
            are of the structure, all features learn to speak against it, and inside it the logit stays at its bias.

    Shapes: ``(B, in_channels, H, W)`` to ``(B, out_channels, H, W)``, any size.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        *,
        features: Sequence[int] = (64, 128),
        norm: bool = False,
        prior: float = 0.5,
    ) -> None:
        super().__init__()
        if not 0 < prior < 1:
            raise ValueError(f"prior must be between 0 and 1, got {prior}")
        if len(features) != 2:
            raise ValueError(f"features must hold two numbers, got {list(features)}")
        fine, coarse = features

        def convolutions(*channels: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for before, after in pairwise(channels):
                layers.append(nn.Conv2d(before, after, 3, padding=1, bias=not norm))
                layers += [nn.BatchNorm2d(after)] if norm else []
                layers.append(nn.ReLU())
            return nn.Sequential(*layers)

        self.fine = convolutions(in_channels, fine, fine, fine, fine)
        self.coarse = convolutions(fine, coarse, coarse)
        self.up = convolutions(coarse, coarse)
        self.last = convolutions(fine + coarse, fine, fine, fine, fine)
        self.head = nn.Conv2d(fine, out_channels, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        assert self.head.bias is not None
        nn.init.constant_(self.head.bias, math.log(prior / (1 - prior)))

    def forward(self, image: Tensor) -> Tensor:
        fine = self.fine(image)
        coarse = self.coarse(F.max_pool2d(fine, 2, ceil_mode=True))
        up = self.up(F.interpolate(coarse, size=fine.shape[2:], mode="bilinear", align_corners=False))
        return self.head(self.last(torch.cat([fine, up], dim=1)))
