"""Heads that make a CT of a backbone's features: in one band, in two bands, and with boundary refinement."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medsynth_ext.methods.frequency_supervised.backbones import conv_block, he_init

__all__ = ["BoundaryRefined", "FactorisedRefinement", "FrequencySupervised", "Regression", "StackedRefinement"]


class FactorisedRefinement(nn.Module):
    """Three chains of one-dimensional convolutions, each along all axes in its own order; their results are added.

    A voxel sees ``kernel`` voxels along every axis with ``9 C^2 kernel`` weights, where a dense kernel has
    ``C^2 kernel^3``.

    Args:
        channels: C, in and out.
        kernel: odd length of the convolutions.

    Raises:
        ValueError: for an even kernel.
    """

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, got {kernel}")
        self.chains = nn.ModuleList(
            nn.Sequential(
                *(
                    conv_block(channels, channels, [kernel if a == (first + i) % 3 else 1 for a in range(3)])
                    for i in range(3)
                )
            )
            for first in range(3)
        )

    def forward(self, features: Tensor) -> Tensor:  # (B, C, D, H, W) to the same
        """Refined features."""
        total = torch.zeros_like(features)
        for chain in self.chains:
            total = total + chain(features)
        return total


class StackedRefinement(nn.Sequential):
    """Cubic convolutions one after the other, which the paper compares with: ``layers * C^2 kernel^3`` weights."""

    def __init__(self, channels: int, kernel: int, layers: int) -> None:
        super().__init__(*(conv_block(channels, channels, kernel) for _ in range(layers)))


class Regression(nn.Module):
    """The bare backbone with one convolution to the CT.

    Args:
        backbone: maps (B, 1, D, H, W) to features of ``channels`` channels, such as :class:`UNet`.
        channels: of the features.
        squash: hyperbolic tangent on the result, for adversarial training on [-1, 1].
    """

    def __init__(self, backbone: nn.Module, *, channels: int, squash: bool = False) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Conv3d(channels, 1, 3, padding=1)
        self.squash = squash
        he_init(self)

    def forward(self, image: Tensor) -> Tensor:  # (B, 1, D, H, W) to (B, 1, D, H, W)
        """The CT in the units of the target."""
        pred = self.head(self.backbone(image))
        return torch.tanh(pred) if self.squash else pred


class BoundaryRefined(nn.Module):
    """The bare backbone with a residual block on its CT (boundary refinement, Peng et al., CVPR 2017), in 3D.

    Args:
        backbone: as in :class:`Regression`.
        channels: of the features.
        hidden: channels inside of the block.
    """

    def __init__(self, backbone: nn.Module, *, channels: int, hidden: int = 32) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Conv3d(channels, 1, 3, padding=1)
        self.refine = nn.Sequential(nn.Conv3d(1, hidden, 3, padding=1), nn.ReLU(), nn.Conv3d(hidden, 1, 3, padding=1))
        he_init(self)

    def forward(self, image: Tensor) -> Tensor:  # (B, 1, D, H, W) to (B, 1, D, H, W)
        """The CT in the units of the target."""
        coarse = self.head(self.backbone(image))
        return coarse + self.refine(coarse)


class FrequencySupervised(nn.Module):
    """Turns any 3D backbone into a model of two bands: a decomposition layer, a refinement of the high band, two heads.

    ``p_low, p_high = softmax(conv(V))`` share out the features V; ``low = conv(p_low V)`` and
    ``high = conv(phi(p_high V))`` with the refinement phi. Only the sum is bounded: ``high`` has either sign.

    Args:
        backbone: maps (B, 1, D, H, W) to features of ``channels`` channels, such as :class:`UNet`.
        channels: of the features.
        k: kernel of the refinement.
        refinement: ``factorised``, or ``stacked``: as many cubic layers as ``layers`` says.
        layers: of the stacked refinement.
        squash: hyperbolic tangent on the sum of both bands, for adversarial training on [-1, 1].

    Raises:
        ValueError: for another refinement, or an even kernel.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        channels: int,
        k: int = 13,
        refinement: str = "factorised",
        layers: int = 3,
        squash: bool = False,
    ) -> None:
        super().__init__()
        if refinement not in ("factorised", "stacked"):
            raise ValueError(f"refinement must be factorised or stacked, got {refinement!r}")
        self.backbone = backbone
        self.decompose = nn.Conv3d(channels, 2, 3, padding=1)
        self.refine: nn.Module = (
            FactorisedRefinement(channels, k) if refinement == "factorised" else StackedRefinement(channels, k, layers)
        )
        self.low_head = nn.Conv3d(channels, 1, 3, padding=1)
        self.high_head = nn.Conv3d(channels, 1, 3, padding=1)
        self.squash = squash
        he_init(self)

    def forward(self, image: Tensor) -> Tensor:  # (B, 1, D, H, W) to (B, 4, D, H, W)
        """Four channels: the CT, its low and its high band in the units of the target, and the share of the high band.

        Without ``squash`` the first is the sum of the next two.
        """
        features = self.backbone(image)
        shares = torch.softmax(self.decompose(features), dim=1)
        low = self.low_head(shares[:, :1] * features)
        high = self.high_head(self.refine(shares[:, 1:] * features))
        pred = low + high
        if self.squash:
            pred = torch.tanh(pred)
        return torch.cat([pred, low, high, shares[:, 1:]], 1)
