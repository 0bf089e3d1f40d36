"""The network of __TITLE__."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["__CLASS__"]


class __CLASS__(nn.Module):
    """Residual blocks whose dilation doubles, at the full resolution of the image.

    Args:
        in_channels: channels of the image.
        out_channels: number of classes, background included.
        width: channels of the blocks.
        blocks: number of blocks; block i has dilation ``2 ** i``.

    Shapes: ``(B, in_channels, D, H, W)`` to logits ``(B, out_channels, D, H, W)`` of any size.
    """

    def __init__(self, in_channels: int, out_channels: int, *, width: int = 16, blocks: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv3d(in_channels, width, kernel_size=3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.InstanceNorm3d(width, affine=True),
                nn.ReLU(),
                nn.Conv3d(width, width, kernel_size=3, padding=2**i, dilation=2**i),
            )
            for i in range(blocks)
        )
        self.head = nn.Conv3d(width, out_channels, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)
