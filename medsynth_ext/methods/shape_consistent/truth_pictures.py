"""Pictures of translations beside the truth that they never saw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from PIL import Image
from torch import Tensor

from medsynth_ext.data.files import replacing
from medsynth_ext.data.scans import scan_name

__all__ = ["TruthPictures"]


class TruthPictures:
    """Writes ``<case>.png``: for both directions a row with source, translation, hidden truth and error.

    Shown is the axial slice in the middle of the labelled organs, volumes from -1 (black) to 1 (white), the absolute
    error from 0 (black) to 1 (white). The output must hold every row's keys, volumes (1, X, Y, Z) turned to RAS.

    Args:
        folder: where the files go.
        rows: keys of source, translation, truth and label of each direction.
        zoom: pixels per voxel.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        rows: Sequence[Sequence[str]] = (
            ("image", "pred", "truth", "label"),
            ("source_b", "back", "truth_b", "target_b"),
        ),
        zoom: int = 4,
    ) -> None:
        self.folder = Path(folder)
        self.rows = rows
        self.zoom = zoom

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        output: list[dict[str, Any]] = engine.state.output  # type: ignore[assignment]
        for sample in output:
            picture = np.concatenate([self._row(*(sample[key] for key in keys)) for keys in self.rows])
            with replacing(self.folder / f"{scan_name(sample['label'].meta['filename_or_obj'])}.png") as temporary:
                Image.fromarray(picture).save(temporary, format="PNG")

    def _row(self, source: Tensor, made: Tensor, truth: Tensor, label: Tensor) -> np.ndarray:  # (H, W) uint8
        marked = torch.as_tensor(label[0] > 0).nonzero()
        level = int(marked[:, 2].float().mean().round()) if len(marked) else label.shape[3] // 2
        planes = [torch.as_tensor(volume)[0, :, :, level].float().cpu() for volume in (source, made, truth)]
        shares = [(plane + 1) / 2 for plane in planes] + [(planes[1] - planes[2]).abs()]
        # Transposed and turned over: the front is up, the patient's left on the left.
        tiles = [share.clamp(0, 1).T.flip(0).numpy() for share in shares]
        tiles = [
            np.pad(np.kron(t, np.ones((self.zoom, self.zoom))), ((0, 2), (0, 2)), constant_values=1) for t in tiles
        ]
        return (255 * np.concatenate(tiles, axis=1)).round().astype(np.uint8)
