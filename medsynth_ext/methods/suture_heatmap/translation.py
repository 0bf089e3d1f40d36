"""Frames of two domains as a cycle-consistent translation wants them, and its use on whole frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor

from medsynth_ext.engines import StepTrainer, sample_states
from medsynth_ext.engines.processes import rank_and_world

__all__ = ["CropPair", "TranslationInferer"]


class CropPair:
    """Random crops of both domains in [-1, 1], mirrored half of the time, on the device.

    Sample n of a training gets the crops of (seed, n), see :class:`medsynth_ext.engines.SupervisedStep`.

    Args:
        size: rows and columns of a crop.
        flip_prob: probability of a left-right mirror image.
        seed: key of the draws.
    """

    def __init__(self, size: Sequence[int], *, flip_prob: float = 0.5, seed: int = 0) -> None:
        self.size = (int(size[0]), int(size[1]))
        self.flip_prob = flip_prob
        self.seed = seed

    def __call__(self, engine: StepTrainer, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """From ``{"a": (B, C, H, W), "b": (B, C, H, W)}`` in [0, 1].

        Raises:
            ValueError: for frames that are smaller than a crop.
        """
        rank, world = rank_and_world()
        frames = [batch[key].as_subclass(torch.Tensor).to(engine.state.device) for key in ("a", "b")]
        count = len(frames[0])
        states = sample_states(self.seed, ((engine.state.iteration - 1) * world + rank) * count, count)
        a, b = (torch.stack([self._crop(f, s) for f, s in zip(part, states, strict=True)]) for part in frames)
        return 2 * a - 1, 2 * b - 1

    def _crop(self, frame: Tensor, state: Any) -> Tensor:
        room = [have - want for have, want in zip(frame.shape[1:], self.size, strict=True)]
        if min(room) < 0:
            raise ValueError(
                f"frames must be at least {self.size} (rows, columns) to crop, got {tuple(frame.shape[1:])}"
            )
        top, left = (int(state.randint(r + 1)) for r in room)
        crop = frame[:, top : top + self.size[0], left : left + self.size[1]]
        return crop.flip(2) if state.rand() < self.flip_prob else crop


class TranslationInferer(Inferer):
    """A generator of images in [-1, 1] on frames in [0, 1]."""

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        return 0.5 * (network(2 * inputs - 1, *args, **kwargs).float() + 1)
