"""The results of a run as NIfTI files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events

from medsynth_ext.data.files import check_writable
from medsynth_ext.data.nifti import nifti_image, save_nifti, scan_header
from medsynth_ext.data.scans import scan_name

__all__ = ["NiftiWriter"]


class NiftiWriter:
    """Writes one result of every scan as ``<case>_<postfix>.nii.gz``, whole or not at all.

    MONAI's ``SaveImage`` writes to the final path, so a full disk leaves half a file.

    Args:
        output_dir: folder for the files; tried before anything is computed.
        postfix: of the file names.
        key: of the result in the evaluator's output, a MetaTensor (C, D, H, W).
        dtype: of the voxels, a NumPy name.
    """

    def __init__(
        self, output_dir: str | os.PathLike, *, postfix: str = "seg", key: str = "pred", dtype: str = "uint8"
    ) -> None:
        self.output_dir = Path(output_dir)
        self.postfix = postfix
        self.key = key
        self.dtype = np.dtype(dtype).type

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.add_event_handler(Events.STARTED, lambda: check_writable(self.output_dir))
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        output: list[dict[str, Any]] = engine.state.output  # type: ignore[assignment]
        for sample in output:
            self.write(sample[self.key])

    def write(self, result: Any) -> None:
        """Write one result; its metadata name the scan."""
        source = Path(str(result.meta["filename_or_obj"]))
        image = nifti_image(result, self.dtype, like=scan_header(source))
        save_nifti(image, self.output_dir / f"{scan_name(source)}_{self.postfix}.nii.gz")
