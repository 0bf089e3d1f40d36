"""How well scans were segmented for which there are labels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.metrics import compute_dice
from monai.networks.utils import one_hot
from monai.transforms import EnsureChannelFirstd, LoadImaged

from medsynth_ext.data import ScanReader
from medsynth_ext.data.files import check_writable, write_json
from medsynth_ext.data.scans import SCAN_SUFFIXES, ScanError, scan_name
from medsynth_ext.transforms import CheckSameGridd

__all__ = ["CaseMetrics"]


class CaseMetrics:
    """Writes ``<case>_metrics.json`` with the Dice of every class on the grid of the scan; ``null`` where both lack it.

    Args:
        labels_dir: folder with a label map of the same name for every scan.
        output_dir: folder for the files.
        classes: background included.

    Raises:
        ScanError: for a scan without a label map, one on another grid, or one with other labels.
    """

    def __init__(self, labels_dir: str | os.PathLike, output_dir: str | os.PathLike, *, classes: int) -> None:
        self.labels_dir = Path(labels_dir)
        self.output_dir = Path(output_dir)
        self.classes = classes
        self.load = (
            LoadImaged("label", reader=ScanReader),
            EnsureChannelFirstd("label"),
            CheckSameGridd(["found", "label"]),
        )

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.add_event_handler(Events.STARTED, lambda: check_writable(self.output_dir))
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        output: list[dict[str, Any]] = engine.state.output  # type: ignore[assignment]
        for sample in output:
            self._write(sample["pred"])

    def _write(self, found: Any) -> None:
        name = scan_name(found.meta["filename_or_obj"])
        files = [self.labels_dir / f"{name}{suffix}" for suffix in SCAN_SUFFIXES]
        path = next((file for file in files if file.is_file()), None)
        if path is None:
            raise ScanError(f"{name} has no label map in {self.labels_dir}")
        item: Any = {"found": found, "label": str(path)}
        for transform in self.load:
            item = transform(item)
        label = item["label"].as_tensor().round().long()
        values = label.unique().tolist()
        if values[0] < 0 or values[-1] >= self.classes:
            raise ScanError(f"{path} must hold labels from 0 to {self.classes - 1}, got {values[:12]}")
        one, true = (one_hot(m[None].cpu().long(), self.classes) for m in (found.as_tensor(), label))
        dice = compute_dice(one, true, include_background=False)[0].tolist()
        present = [d for d in dice if d == d]
        record = {
            "dice": {str(k): None if d != d else d for k, d in enumerate(dice, start=1)},
            "mean_dice": sum(present) / len(present) if present else None,
        }
        write_json(self.output_dir / f"{name}_metrics.json", record)
