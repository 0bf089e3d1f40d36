"""The generator's chain written with PyTorch's own functions: what a skilled user would write without the operators.

It draws its noise with ``torch.randn`` and warps with ``grid_sample``; the distributions are the generator's, not its
random numbers. One sample at a time, as the published chain works.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from medsynth_ext.generators import SynthSegGenerator, SynthSegParameters

__all__ = ["compose_pair"]


def _grid(size: Sequence[int], device: torch.device) -> Tensor:  # (3, *size) voxel indices
    return torch.stack(
        torch.meshgrid(*(torch.arange(n, device=device, dtype=torch.float32) for n in size), indexing="ij")
    )


def _sample(values: Tensor, location: Tensor, mode: str) -> Tensor:  # (1, C, *S) at (3, *T) voxel indices
    size = torch.tensor(values.shape[2:], device=values.device, dtype=torch.float32).reshape(3, 1, 1, 1)
    unit = (2 * location / (size - 1) - 1).flip(0).movedim(0, -1)[None]
    return F.grid_sample(values, unit, mode=mode, padding_mode="border", align_corners=True)


def _integrate(velocity: Tensor, steps: int) -> Tensor:  # (1, 3, *S)
    grid = _grid(velocity.shape[2:], velocity.device)
    field = velocity / 2**steps
    for _ in range(steps):
        field = field + _sample(field, grid + field[0], "bilinear")
    return field


def _blur(image: Tensor, sigmas: Sequence[float]) -> Tensor:
    for axis, sigma in enumerate(sigmas):
        if sigma == 0:
            continue
        radius = int(-(-3 * sigma // 1))
        taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=image.device) / sigma) ** 2)
        shape, padding = [1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]
        shape[2 + axis] = -1
        padding[4 - 2 * axis] = padding[5 - 2 * axis] = radius
        image = F.conv3d(F.pad(image, padding, mode="replicate"), (taps / taps.sum()).reshape(shape))
    return image


def compose_pair(
    generator: SynthSegGenerator,
    labels: Tensor,  # (1, 1, D, H, W)
    drawn: SynthSegParameters,
) -> tuple[Tensor, Tensor]:
    """One training pair from drawn parameters, with PyTorch's functions only."""
    device, crop, table = labels.device, generator.crop_size, generator.label_table
    half = [max(2, n // 2) for n in crop]
    velocity = F.interpolate(drawn.velocity.to(device), half, mode="trilinear", align_corners=False)
    field = F.interpolate(_integrate(velocity, generator.steps), crop, mode="trilinear", align_corners=False)[0]
    matrix = drawn.matrix[0].float().to(device)
    moved = _grid(crop, device).add_(field)
    location = torch.einsum("ij,jdhw->idhw", matrix[:, :3], moved) + matrix[:, 3].reshape(3, 1, 1, 1)
    warped = _sample(labels.float(), location, "nearest")[0, 0].round_().long()

    place = table.lut.to(device).long()[warped]
    means, stds = drawn.means[0].to(device)[:, 0], drawn.stds[0].to(device)[:, 0]
    image = (means[place] + stds[place] * torch.randn(crop, device=device))[None, None]
    bias = F.interpolate(drawn.bias_grid.to(device), crop, mode="trilinear", align_corners=False)
    image = (image * bias.exp_()).clamp_(0, 300)
    low, high = image.aminmax()
    image = ((image - low) / (high - low + 1e-7)).pow_(float(drawn.gamma[0, 0].exp()))
    image = _blur(image, drawn.blur_sigma[0].tolist())
    small = F.interpolate(image, drawn.low_size[0].tolist(), mode="trilinear", align_corners=False)
    image = F.interpolate(small, crop, mode="trilinear", align_corners=False)
    target = table.target_of.long()[drawn.source[0]].to(device)[place]
    return image, target[None, None]
