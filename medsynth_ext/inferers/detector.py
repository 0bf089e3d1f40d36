"""An inferer in the form in which MONAI Label runs bundles whose name holds "detection"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor, nn

__all__ = ["InfererDetector"]


class InfererDetector:
    """A detector as MONAI Label calls it: the network is set from outside, and what comes back joins the item.

    The prediction gets the name ``pred`` as with every other bundle. ``box``, empty, tells the post-processing that
    boxes are asked for; see :class:`medsynth_ext.transforms.DetectionBoxesd`.

    Args:
        inferer: runs the network.
        twin: the configuration's own network, where post-processing refers to it; gets the weights of the other.
    """

    def __init__(self, inferer: Inferer | Callable[..., Any], *, twin: nn.Module | None = None) -> None:
        self.inferer = inferer
        self.twin = twin
        self.network: nn.Module | None = None

    def __call__(self, inputs: Tensor, *, use_inferer: bool = True) -> dict[str, Any]:  # (B, C, *spatial)
        """``pred`` (B, ...), or a dict of such, and ``box`` (B, 0, 6).

        Raises:
            RuntimeError: when nobody has set the network.
        """
        if self.network is None:
            raise RuntimeError("a detector needs its network: set detector.network before calling it")
        if self.twin is not None:
            self.twin.load_state_dict(self.network.state_dict())
        return {"pred": self.inferer(inputs, self.network), "box": torch.zeros(inputs.shape[0], 0, 6)}
