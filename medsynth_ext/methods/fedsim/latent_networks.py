"""The two networks that all sites share: latent to shape parameters, latent to material map."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["MaterialGenerator", "ShapeGenerator"]


class ShapeGenerator(nn.Module):
    """Latent to shape parameters in (-1, 1); 44,053 parameters at the default sizes.

    Args:
        latent: length of the latent.
        parameters: number of shape parameters; see ``ShapeModel.parameters``.
        hidden: widths of the hidden layers.
        slope: of the leaky rectifiers.

    >>> sum(p.numel() for p in ShapeGenerator().parameters())
    44053
    """

    def __init__(
        self, latent: int = 32, parameters: int = 21, *, hidden: Sequence[int] = (256, 128), slope: float = 0.2
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in pairwise([latent, *hidden]):
            layers += [nn.Linear(a, b), nn.LeakyReLU(slope)]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden[-1], parameters), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:  # (B, latent) -> (B, parameters)
        return self.layers(z)


class MaterialGenerator(nn.Module):
    """Latent to a coarse map of ``HU / 1000`` in (-1, 1), by nearest up-sampling and convolutions.

    Args:
        latent: length of the latent.
        size: voxels per side of the map, a multiple of 4.
        features: channels after the first and second convolution.
        norm: ``batch`` (statistics of the batch in training, running ones when sampling) or ``group`` (8 groups; no
            running buffers, so nothing but parameters is shared between sites).

    Raises:
        ValueError: for another norm, or a size that is not a multiple of 4.

    >>> MaterialGenerator()(torch.zeros(2, 32)).shape
    torch.Size([2, 1, 16, 16, 16])
    """

    def __init__(
        self, latent: int = 32, size: int = 16, *, features: Sequence[int] = (256, 128), norm: str = "batch"
    ) -> None:
        super().__init__()
        if size % 4:
            raise ValueError(f"size must be a multiple of 4, got {size}")
        if norm not in ("batch", "group"):
            raise ValueError(f"norm must be 'batch' or 'group', got {norm!r}")
        self.start = size // 4
        channels = [latent, *features, 1]
        self.convs = nn.ModuleList(nn.Conv3d(a, b, 3, padding=1) for a, b in pairwise(channels))
        self.norms = nn.ModuleList(nn.BatchNorm3d(c) if norm == "batch" else nn.GroupNorm(8, c) for c in features)

    def forward(self, z: Tensor) -> Tensor:  # (B, latent) -> (B, 1, size, size, size)
        x = z[:, :, None, None, None].expand(-1, -1, self.start, self.start, self.start)
        for conv, norm in zip(self.convs[:-1], self.norms, strict=True):
            x = F.interpolate(F.relu(norm(conv(x))), scale_factor=2.0, mode="nearest")
        return torch.tanh(self.convs[-1](x))
