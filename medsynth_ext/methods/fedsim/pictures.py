"""Pictures of generated slices beside real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from ignite.engine import Engine, Events
from PIL import Image
from torch import Tensor

from medsynth_ext.data.files import replacing

__all__ = ["SlicePictures", "hu_window"]


def hu_window(values: Tensor, *, low_hu: float = -1000.0, high_hu: float = 600.0) -> np.ndarray:
    """HU / 1000 to uint8 grey; axes X, Y become columns and rows with the front of the body up."""
    grey = ((1000 * values.detach().float().cpu() - low_hu) / (high_hu - low_hu)).clamp(0, 1) * 255
    return grey.to(torch.uint8).transpose(-1, -2).flip(-2).numpy()


class SlicePictures:
    """Writes the last step's real slices, generated slices and labels as three rows.

    The engine's output must hold ``image``, ``pred`` and ``label`` (1, N, N) per sample.

    Args:
        folder: where ``epoch=N.png`` are written.
        columns: slices at most.
    """

    def __init__(self, folder: str | Path, *, columns: int = 8) -> None:
        self.folder = Path(folder)
        self.columns = columns

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        output: list[dict[str, Tensor]] = engine.state.output  # type: ignore[assignment]
        samples = [s for s in output if "pred" in s and s["pred"].ndim == 3][: self.columns]
        if not samples:
            return
        rows = [np.concatenate([hu_window(s[key][0]) for s in samples], 1) for key in ("image", "pred")]
        rows.append(np.concatenate([hu_window(1.6 * s["label"][0] - 1) for s in samples], 1))
        with replacing(self.folder / f"epoch={engine.state.epoch:06d}.png") as temporary:
            Image.fromarray(np.concatenate(rows)).save(temporary, format="PNG")
