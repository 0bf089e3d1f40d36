"""Random patches of whole volumes, turned about the axis from feet to head."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medsynth_ext.engines import StepTrainer, sample_states
from medsynth_ext.engines.processes import rank_and_world

__all__ = ["PatchDrawer", "collate_volumes", "draw_patch"]


def collate_volumes(items: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Volumes of a batch side by side in lists, since they may differ in size, and the names of their files."""
    metas = [getattr(value, "meta", {}) for item in items for value in item.values()]
    files = [str(meta["filename_or_obj"]) for meta in metas if "filename_or_obj" in meta]
    return {**{key: [item[key] for item in items] for key in items[0]}, "files": files}


def draw_patch(
    volumes: Tensor,  # (C, D, H, W)
    patch: Sequence[int],
    state: np.random.RandomState,
    *,
    angle_deg: float = 0.0,
) -> Tensor:  # (C, *patch)
    """A patch at a random place of volumes that are turned about the middle of their last axis.

    Linear in between, border values outside. Only the patch is computed.

    Args:
        volumes: channels on one grid.
        patch: voxels of the patch.
        state: draws the place and the angle. The middle of the patch is uniform over the volume, and what sticks out
            is moved inside: as a sliding window does, a third of the patches of half the volume's side begin at either
            end. With places that are uniform where the patch fits, corners would hardly ever be seen.
        angle_deg: the angle is uniform between minus and plus this.
    """
    shape = volumes.shape[1:]
    start = [_start(n, p, state) for n, p in zip(shape, patch, strict=True)]
    angle = math.radians(state.uniform(-angle_deg, angle_deg))
    if angle == 0 and all(p <= n for p, n in zip(patch, shape, strict=True)):
        box = (slice(None), *(slice(int(s), int(s) + p) for s, p in zip(start, patch, strict=True)))
        return volumes[box].clone()
    middle = [(n - 1) / 2 for n in shape]
    x, y, z = (s + torch.arange(p, device=volumes.device) - m for s, p, m in zip(start, patch, middle, strict=True))
    cos, sin = math.cos(angle), math.sin(angle)
    turned = [cos * x[:, None] - sin * y, sin * x[:, None] + cos * y]
    # grid_sample wants the last axis first, and -1 and 1 at the outer voxel centres.
    scaled = [t / max(m, 0.5) for t, m in zip((*turned, z), middle, strict=True)]
    size = tuple(patch)
    grid = torch.stack(
        [scaled[2].expand(size), scaled[1][:, :, None].expand(size), scaled[0][:, :, None].expand(size)], -1
    )
    found = F.grid_sample(
        volumes[None].float(), grid[None].float(), mode="bilinear", padding_mode="border", align_corners=True
    )
    return found[0]


def _start(size: int, patch: int, state: np.random.RandomState) -> float:
    """First voxel of a patch along one axis, negative where the patch is larger than the volume."""
    slack, half = max(0, size - patch), patch // 2
    return min(max(state.randint(-half, slack + half + 1), 0), slack) - max(0, patch - size) / 2


class PatchDrawer:
    """``prepare`` of a ``TranslationStep``: one patch of every volume of the batch, on the device.

    Sample b of rank r in iteration i has the number ``(i - 1) * G + r * B + b`` (G samples per iteration over all
    processes); its patch is a function of ``(seed, number)``, so a training that goes on sees the same patches.

    Args:
        patch: voxels of a patch.
        angle_deg: see :func:`draw_patch`.
        seed: key of the draws.
        keys: volumes of a case, on one grid.
    """

    def __init__(
        self,
        patch: Sequence[int],
        *,
        angle_deg: float = 10.0,
        seed: int = 0,
        keys: Sequence[str] = ("image", "label", "high"),
    ) -> None:
        self.patch = tuple(patch)
        self.angle_deg = angle_deg
        self.seed = seed
        self.keys = tuple(keys)

    @torch.no_grad()
    def __call__(self, engine: StepTrainer, batch: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
        rank, world = rank_and_world()
        count = len(batch[self.keys[0]])
        first = ((engine.state.iteration - 1) * world + rank) * count
        device = torch.device(engine.state.device)
        patches = []
        for b, state in enumerate(sample_states(self.seed, first, count)):
            volumes = torch.cat([torch.as_tensor(batch[key][b]).to(device, non_blocking=True) for key in self.keys])
            patches.append(draw_patch(volumes, self.patch, state, angle_deg=self.angle_deg))
        stack = torch.stack(patches)  # (B, keys, *patch)
        return {key: stack[:, k : k + 1] for k, key in enumerate(self.keys)}
