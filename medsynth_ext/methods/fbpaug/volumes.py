"""A record of the lesion volume of every scan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events

from medsynth_ext.data.files import replacing
from medsynth_ext.data.scans import ScanDataset, scan_name
from medsynth_ext.methods.fbpaug.agreement import mask_volume_ml

__all__ = ["LesionVolumes"]


class LesionVolumes:
    """Writes ``volumes.json``: scan to lesion volume in ml, and the scans that could not be used.

    Args:
        output_dir: where the file is.
        dataset: tells which scans failed.
    """

    def __init__(self, output_dir: str | Path, *, dataset: ScanDataset) -> None:
        self.path = Path(output_dir) / "volumes.json"
        self.dataset = dataset
        self.volumes: dict[str, float] = {}

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def _add(self, engine: Engine) -> None:
        output: list[dict[str, Any]] = engine.state.output  # type: ignore[assignment]
        for sample in output:
            mask = sample["pred"]
            name = scan_name(str(mask.meta["filename_or_obj"]))
            self.volumes[name] = mask_volume_ml(np.asarray(mask.cpu()), np.asarray(torch.as_tensor(mask.affine).cpu()))

    def write(self) -> None:
        """Write what is known so far."""
        record = {
            "lesion_volume_ml": {name: round(volume, 3) for name, volume in self.volumes.items()},
            "failed": {str(path): sentence for path, sentence in self.dataset.failures},
        }
        with replacing(self.path) as temporary:
            temporary.write_text(json.dumps(record, indent=4) + "\n")
