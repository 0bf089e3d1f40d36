"""The baseline of a federation: the sites train the segmenter itself together, without a simulator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.losses import DiceCELoss
from torch import Tensor, nn

from medsynth_ext.engines import LatentGaussian
from medsynth_ext.engines.federated import Exchange, SiteResult

__all__ = ["SegmenterHospital", "segmenter_plan"]


def segmenter_plan(steps: int) -> list[Exchange]:
    """One exchange per step, with the optimiser ``fit``."""
    return [Exchange(({"iteration": step + 1},), "fit") for step in range(steps)]


class SegmenterHospital:
    """Gradients of the shared segmenter on one labelled volume at a time; nothing is private but the data.

    Args:
        network: a copy of the shared segmenter of its own.
        images: (M, 1, N, N, N) in [-1, 1].
        hearts: (M, 1, N, N, N), 0 or 1.
        seed: of the order of the volumes.
    """

    def __init__(self, network: nn.Module, images: Tensor, hearts: Tensor, *, seed: int = 0) -> None:
        self.network, self.images, self.hearts, self.seed = network, images, hearts, seed
        self.loss = DiceCELoss(to_onehot_y=True, softmax=True)

    def prepare(self) -> None:
        """Nothing to do: the volumes are in memory."""

    def size(self) -> int:
        """Number of labelled volumes."""
        return len(self.images)

    def run(self, state: Mapping[str, Tensor], work: Sequence[Mapping[str, Any]]) -> SiteResult:
        """The gradient of one volume, drawn by (seed, iteration)."""
        (item,) = work
        key = np.array([self.seed, item["iteration"]], dtype=np.uint64)
        index = int(np.random.Generator(np.random.Philox(key=key)).integers(len(self.images)))
        device = next(self.network.parameters()).device
        self.network.load_state_dict(dict(state))
        self.network.train()
        self.network.zero_grad(set_to_none=True)
        image, heart = self.images[index : index + 1].to(device), self.hearts[index : index + 1].to(device)
        loss = self.loss(self.network(image), heart)
        loss.backward()
        gradients = {name: p.grad.clone() for name, p in self.network.named_parameters() if p.grad is not None}
        return SiteResult(gradients, {"loss": float(loss.detach())}, 1)

    def latents(self) -> LatentGaussian:
        """There are none.

        Raises:
            ValueError: always; a server of segmenters is made with ``pool_latents`` off.
        """
        raise ValueError("a segmenter has no latents")

    def finish(self, state: Mapping[str, Tensor], gaussian: LatentGaussian | None, folder: Path) -> None:
        """Keep the final shared state."""
        self.network.load_state_dict(dict(state))

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the shared state comes with every message."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to take over."""
