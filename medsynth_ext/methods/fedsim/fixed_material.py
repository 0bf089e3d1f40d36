"""The variant without a learned material: a table of HU per part, scanned at full resolution."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medsynth_ext.methods.fedsim.ct_simulator import CTSimulator
from medsynth_ext.methods.fedsim.parts import PART_NAMES

__all__ = ["FixedMaterial"]


class FixedMaterial(nn.Module):
    """Every part gets its attenuation from a table, and the simulator runs on the full grid.

    Args:
        simulator: of the label's size.
        part_hu: one number per part, in the order of ``PART_NAMES``.
        background_hu: outside the heart; where nothing else is known, with a mean background.
        heart_hu: of the heart where a label map does not tell its parts (0 and 1 only).
        background: ``uniform``, or ``mean``: what a site's volumes show there on average (:meth:`learn_background`),
            which is kept with the weights.

    Raises:
        ValueError: for a table of another length, or another background.
    """

    table: Tensor
    background: Tensor | None  # (1, N, N, N), not a number until it is learned

    def __init__(
        self,
        simulator: CTSimulator,
        *,
        part_hu: Sequence[float] = (350.0, 110.0, 300.0, 350.0, 300.0, 370.0, 320.0),
        background_hu: float = 40.0,
        heart_hu: float = 280.0,
        background: str = "uniform",
    ) -> None:
        super().__init__()
        if background not in ("uniform", "mean"):
            raise ValueError(f"background must be 'uniform' or 'mean', got {background!r}")
        if len(part_hu) != len(PART_NAMES):
            raise ValueError(f"part_hu must hold {len(PART_NAMES)} numbers, got {len(part_hu)}")
        self.simulator = simulator
        self.heart_hu = heart_hu
        self.register_buffer("table", torch.tensor([background_hu, *part_hu]) / 1000, persistent=False)
        unknown = torch.full((1, *(simulator.size,) * 3), math.nan) if background == "mean" else None
        self.register_buffer("background", unknown)

    def learn_background(self, images: Tensor, parts: Tensor) -> None:  # (M, 1, N, N, N) float and uint8
        """Take the mean of the images outside their hearts for the background; nothing when that is uniform."""
        if self.background is None:
            return
        outside = (parts == 0).to(images)
        count = outside.sum(0)
        mean = (images * outside).sum(0) / count.clamp_min(1)
        self.background.copy_(torch.where(count > 0, mean, float(self.table[0])))

    def tissue(self, parts: Tensor) -> Tensor:  # (B, 1, N, N, N) uint8 -> float
        """``HU / 1000`` before the scan.

        Raises:
            ValueError: when the mean background was not learned.
        """
        if self.background is not None and bool(self.background.isnan().any()):
            raise ValueError("the mean background is not known: it comes from a site's volumes, or with its weights")
        values = self.table[parts.long()]
        plain = parts.flatten(1).amax(1) <= 1
        if plain.any():
            values[plain] = torch.where(parts[plain] > 0, self.heart_hu / 1000, float(self.table[0]))
        return values if self.background is None else torch.where(parts > 0, values, self.background)

    @torch.no_grad()
    def forward(self, parts: Tensor) -> Tensor:  # (B, 1, N, N, N) uint8 -> float
        """The simulated CT, ``HU / 1000``."""
        return torch.cat([self.simulator(self.tissue(part[None])) for part in parts])
