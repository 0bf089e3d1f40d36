"""Random mirror images, zooms and crops of batches of slices, on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from medsynth_ext.engines import StepTrainer, sample_states
from medsynth_ext.engines.processes import rank_and_world

__all__ = ["DomainPair", "SlicePreparation"]

_AIR = -1.0


class SlicePreparation:
    """Mirror left and right, zoom, and crop at a random place (pad with -1 where the image is smaller).

    MR and surrogate share their draw, CT has its own. Sample n of a training gets the draws of (seed, n).

    Args:
        size: rows and columns of a crop.
        flip_prob: probability of a mirror image.
        zoom: range of the magnification.
        seed: key of the draws.
    """

    def __init__(
        self, size: Sequence[int], *, flip_prob: float = 0.5, zoom: Sequence[float] = (0.6, 1.4), seed: int = 0
    ) -> None:
        self.size = (int(size[0]), int(size[1]))
        self.flip_prob = flip_prob
        self.zoom = (float(zoom[0]), float(zoom[1]))
        self.seed = seed

    def __call__(self, engine: StepTrainer, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """From ``mr``, ``surrogate`` and ``ct`` (B, 1, H, W) in [-1, 1] to crops of them."""
        rank, world = rank_and_world()
        count = len(batch["mr"])
        return self.crop(batch, ((engine.state.iteration - 1) * world + rank) * count, engine.state.device)

    def crop(self, batch: Mapping[str, Any], first: int, device: torch.device | str) -> dict[str, Tensor]:
        """The same for a batch whose first sample has the number ``first``."""
        images = {key: batch[key].as_subclass(Tensor).to(device) for key in ("mr", "surrogate", "ct")}
        states = sample_states(self.seed, first, len(images["mr"]))
        pair = torch.cat([images["mr"], images["surrogate"]], 1)
        pair, ct = (self._cropped(part, [self._draw(part, s) for s in states]) for part in (pair, images["ct"]))
        return {"mr": pair[:, :1], "surrogate": pair[:, 1:], "ct": ct}

    def _draw(self, images: Tensor, state: Any) -> Tensor:  # (2, 3)
        """The affine map from the crop's coordinates to the image's, both from -1 to 1."""
        flip = -1.0 if state.rand() < self.flip_prob else 1.0
        zoom = state.uniform(*self.zoom)
        rows = []
        for side, wanted in zip(images.shape[2:], self.size, strict=True):
            share = wanted / (zoom * side)  # of the image that the crop shows
            rows.append((share, state.uniform(-1, 1) * max(0.0, 1 - share)))
        (height, top), (width, left) = rows
        return torch.tensor([[flip * width, 0.0, left], [0.0, height, top]])

    def _cropped(self, images: Tensor, maps: list[Tensor]) -> Tensor:
        theta = torch.stack(maps).to(images.device)
        grid = F.affine_grid(theta, [*images.shape[:2], *self.size], align_corners=False)
        return F.grid_sample(images.float() - _AIR, grid, mode="bilinear", align_corners=False) + _AIR


class DomainPair:
    """MR and CT of a preparation as cycle-consistent training wants them: domain a, then domain b.

    Args:
        prepare: the preparation.
        direction: ``mr2ct`` or ``ct2mr``; what is translated is domain a.
    """

    def __init__(self, prepare: SlicePreparation, direction: str = "mr2ct") -> None:
        self.prepare = prepare
        self.keys = tuple(direction.split("2"))

    def __call__(self, engine: StepTrainer, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        images = self.prepare(engine, batch)
        return images[self.keys[0]], images[self.keys[1]]
