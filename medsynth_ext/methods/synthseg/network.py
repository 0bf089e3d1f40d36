"""The 3D U-Net of SynthSeg."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["SynthSegUNet"]


class _Level(nn.Module):
    """Two 3x3x3 convolutions with ELU, then one norm; also returns the features before the norm (the skip)."""

    def __init__(
        self, conv: type[nn.Module], norm: Callable[[int], nn.Module], in_channels: int, channels: int
    ) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, channels, kernel_size=3, padding=1)
        self.conv2 = conv(channels, channels, kernel_size=3, padding=1)
        self.norm = norm(channels)
        self.act = nn.ELU(inplace=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        skip = self.act(self.conv2(self.act(self.conv1(x))))
        return self.norm(skip), skip


class _InstanceNorm(nn.Module):
    """Normalises every image by its own mean and variance per channel, then scales and shifts.

    ``nn.InstanceNorm3d`` is not used: it drops the channels-last layout, and in bfloat16 on the CPU its gradients of
    scale and shift are wrong by more than their own size (torch 2.13).
    """

    def __init__(self, channels: int, *, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        # Not F.batch_norm, which refuses a single voxel; here it becomes the bias.
        images = [
            torch.batch_norm(i, self.weight, self.bias, None, None, True, 0.0, self.eps, True) for i in x.split(1)
        ]
        return images[0] if len(images) == 1 else torch.cat(images)


# Keras' momentum 0.99 weighs the old average; torch's weighs the new value.
_BATCH: dict[str, Any] = {"momentum": 0.01, "eps": 1e-3}
_INSTANCE = partial(_InstanceNorm, eps=1e-3)
_NORMS: dict[str, dict[int, Callable[[int], nn.Module]]] = {
    "batch": {2: partial(nn.BatchNorm2d, **_BATCH), 3: partial(nn.BatchNorm3d, **_BATCH)},
    "instance": {2: _INSTANCE, 3: _INSTANCE},
}


class SynthSegUNet(nn.Module):
    """U-Net with ELU, one norm per level and skips taken before the norm (Billot et al., MedIA 2023).

    Level ``i`` has ``features[i]`` channels. The encoder halves the size with max-pooling, the decoder doubles it with
    nearest up-sampling and concatenates ``[skip, up]``. The output are logits; apply a softmax for posteriors.

    The paper's norm is a batch norm, trained on batches of one image: training normalises each image by its own
    statistics, inference by their average over images. Random contrasts make these differ so much that a network which
    has not been trained for long is much better with the statistics of the image itself. With ``norm="instance"``
    inference has those too; on batches of one image the training is the same.

    Args:
        in_channels: channels of the input image.
        out_channels: number of classes K', background included.
        features: channels per level, finest first. The paper's network is ``(24, 48, 96, 192, 384)``.
        levels: number of levels to use, at most ``len(features)``; all when ``None``.
        norm: ``"batch"`` or ``"instance"``.
        spatial_dims: 2 or 3.

    Shapes: ``(B, in_channels, *S)`` to ``(B, out_channels, *S)``, every size a multiple of ``2 ** (levels - 1)``.

    Raises:
        ValueError: for a wrong number of levels or dimensions, an unknown norm, or an input whose size does not fit.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        features: Sequence[int] = (24, 48, 96, 192, 384),
        levels: int | None = None,
        norm: str = "batch",
        spatial_dims: int = 3,
    ) -> None:
        super().__init__()
        levels = len(features) if levels is None else levels
        if not 1 <= levels <= len(features):
            raise ValueError(f"levels must be 1 to {len(features)} (the number of features given), got {levels}")
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims}")
        if norm not in _NORMS:
            raise ValueError(f"norm must be one of {sorted(_NORMS)}, got {norm!r}")
        conv = {2: nn.Conv2d, 3: nn.Conv3d}[spatial_dims]
        make_norm = _NORMS[norm][spatial_dims]
        pool = {2: nn.MaxPool2d, 3: nn.MaxPool3d}[spatial_dims]
        width = list(features[:levels])
        self.divisor = 2 ** (levels - 1)
        self.down = nn.ModuleList(
            _Level(conv, make_norm, c_in, c) for c_in, c in zip([in_channels, *width[:-1]], width, strict=True)
        )
        self.up = nn.ModuleList(
            _Level(conv, make_norm, width[i + 1] + width[i], width[i]) for i in reversed(range(levels - 1))
        )
        self.pool = pool(2)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.head = conv(width[0], out_channels, kernel_size=1)
        for module in self.modules():
            if isinstance(module, conv):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, image: Tensor) -> Tensor:
        if any(n % self.divisor for n in image.shape[2:]):
            raise ValueError(
                f"image sizes must be multiples of {self.divisor}, got {list(image.shape[2:])}; pad the image first"
            )
        skips: list[Tensor] = []
        x = image
        for i, level in enumerate(self.down):
            if i > 0:
                x = self.pool(x)
            x, skip = level(x)
            skips.append(skip)
        for i, level in enumerate(self.up):
            x = torch.cat([skips[len(skips) - 2 - i], self.upsample(x)], dim=1)
            x, _ = level(x)
        return self.head(x)
