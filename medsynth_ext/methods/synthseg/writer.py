"""Files of a segmentation run: labels, posteriors, resampled scan, volumes, picture."""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor

from medsynth_ext.data.dicom_series import Correction
from medsynth_ext.data.files import check_writable, replacing
from medsynth_ext.data.nifti import nifti_image, save_nifti, scan_header
from medsynth_ext.data.scan_reader import scan_image
from medsynth_ext.data.scans import scan_name
from medsynth_ext.methods.synthseg.overlay import save_overlay

__all__ = ["SegmentationWriter"]


class SegmentationWriter:
    """Ignite handler that writes the results of every scan after post-processing.

    Every file is written beside its place and renamed, so a full disk leaves no partial file. ``volumes.csv`` has a
    row per scan in mm^3 and is complete after every scan.

    Args:
        output_dir: folder for the results; made when it is not there.
        names: name of every channel (``LabelTable.target_names``).
        values: label value of every channel in the file (``LabelTable.target_values``); the channel when ``None``.
        save_posteriors: also write ``<case>_post.nii.gz`` (float32, network grid, channels last).
        save_resampled: also write ``<case>_resampled.nii.gz``, the scan as the network sees it.
        save_overlay: write ``<case>.png``.
        window: grey values of the picture, see ``save_overlay``.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike,
        names: Sequence[str],
        *,
        values: Sequence[int] | None = None,
        save_posteriors: bool = False,
        save_resampled: bool = False,
        save_overlay: bool = True,
        window: tuple[float, float] | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.names = list(names)
        self.values = torch.tensor(list(range(len(self.names)) if values is None else values), dtype=torch.int32)
        self.save_posteriors = save_posteriors
        self.save_resampled = save_resampled
        self.save_overlay = save_overlay
        self.window = window
        self.rows: list[tuple[str, list[float]]] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def start(self, engine: Engine | None = None) -> None:
        """Forget earlier scans, and fail before anything is computed when the folder cannot be written."""
        self.rows = []
        check_writable(self.output_dir)

    def __call__(self, engine: Engine) -> None:
        items: Any = zip(engine.state.batch, engine.state.output, strict=True)  # type: ignore[call-overload]
        for batch, output in items:
            self.write({**batch, **output})

    def write(self, data: Mapping[str, Any]) -> None:
        """Write the results of one scan: ``image``, ``pred`` (channel numbers), ``volumes_mm3`` and, when kept,
        ``posteriors``.
        """
        pred = data["pred"]
        source = Path(str(pred.meta["filename_or_obj"]))
        case = scan_name(source)
        header = scan_header(source)
        labels = nifti_image(self._with_values(pred), np.int32, like=header)
        save_nifti(labels, self.output_dir / f"{case}_seg.nii.gz")
        if self.save_posteriors:
            posteriors = nifti_image(data["posteriors"], np.float32, like=header)
            save_nifti(posteriors, self.output_dir / f"{case}_post.nii.gz")
        if self.save_resampled:
            resampled = nifti_image(data["image"], np.float32, like=header)
            save_nifti(resampled, self.output_dir / f"{case}_resampled.nii.gz")
        if self.save_overlay:
            scan = self._shown(source)
            if not _same_grid(scan, labels):
                scan = nifti_image(data["image"], np.float32, like=header)
            save_overlay(self.output_dir / f"{case}.png", scan, labels, title=case, window=self.window)
        self.rows.append((case, [float(v) for v in torch.as_tensor(data["volumes_mm3"])]))
        with replacing(self.output_dir / "volumes.csv") as temporary:
            self._write_table(temporary)

    def _with_values(self, channels: MetaTensor) -> MetaTensor:
        values = self.values.to(channels.device)[channels.as_tensor().long()]
        return MetaTensor(values, meta=channels.meta)

    @staticmethod
    def _shown(source: Path) -> Any:
        with warnings.catch_warnings():  # it warned when it was read for the network
            warnings.simplefilter("ignore", Correction)
            return scan_image(source)

    def _write_table(self, path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["case", *(f"{name} [mm3]" for name in self.names[1:])])
            writer.writerows([case, *(f"{v:.1f}" for v in volumes[1:])] for case, volumes in self.rows)


def _same_grid(a: nib.spatialimages.SpatialImage, b: nib.spatialimages.SpatialImage) -> bool:
    return a.shape[:3] == b.shape[:3] and np.allclose(a.affine, b.affine, atol=1e-3)
