"""What a generator of labelled images must offer to be run in bulk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

__all__ = ["Sample", "SampleSource", "Volume", "on_grid", "sample_number"]


@dataclass(frozen=True)
class Volume:
    """One image or label map, and the type of its voxels in the file."""

    data: MetaTensor  # (1, D, H, W) with its affine
    dtype: type[np.generic]


@dataclass(frozen=True)
class Sample:
    """Everything that belongs to one number: images and labels by name, and what the manifest shall say beside."""

    volumes: Mapping[str, Volume]
    facts: Mapping[str, Any] = field(default_factory=dict)  # as JSON


class SampleSource(Protocol):
    """Makes labelled images; a new generator only has to be wrapped in this."""

    def describe(self) -> dict[str, Any]:
        """All that the samples depend on beside seed and number, as JSON: kind, settings, checksums of files.

        Two sources with one description make the same files. No paths: the same files elsewhere are the same source.
        """

    def make(self, index: int, *, seed: int) -> Sample:
        """Sample number ``index`` from 0, a pure function of (description, seed, index)."""


def on_grid(values: Tensor, spacing_mm: float) -> MetaTensor:  # (D, H, W) to (1, D, H, W)
    """Voxels with axes to the right, front and top, and the origin in their middle."""
    affine = torch.diag(torch.tensor([spacing_mm, spacing_mm, spacing_mm, 1.0], dtype=torch.float64))
    affine[:3, 3] = torch.tensor([-spacing_mm * (n - 1) / 2 for n in values.shape])
    return MetaTensor(values[None].contiguous(), affine=affine)


def sample_number(seed: int, index: int) -> int:
    """One number for generators that are addressed by one, different for different (seed, index)."""
    return seed * 2**32 + index
