"""Where scans come from: a file, or a DICOM series that the SDK's operators found and selected."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor
from monai.deploy.core import Fragment, Operator, OperatorSpec
from monai.deploy.core.domain import Image
from monai.deploy.core.domain.dicom_series import DICOMSeries
from monai.deploy.core.domain.dicom_series_selection import StudySelectedSeries

from medsynth_ext.data import Correction, ScanError, read_series
from medsynth_ext.data.scan_reader import volume_meta

SELECTED = "study_selected_series_list"


class LoadScan(Operator):
    """Reads a scan, radiograph or frame with the loader that the bundle's preprocessing begins with.

    Args:
        load: that transform, ``{"image": path}`` to ``{"image": MetaTensor}``.
        path: of the scan.

    Named output:
        image: Image.
    """

    def __init__(
        self, fragment: Fragment, *args: Any, load: Callable[[dict], dict], path: Path, **options: Any
    ) -> None:
        self.load, self.path = load, path
        super().__init__(fragment, *args, **options)

    def setup(self, spec: OperatorSpec) -> None:
        spec.output("image")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        loaded: MetaTensor = self.load({"image": str(self.path)})["image"]
        meta = {**loaded.meta, "affine": loaded.affine.numpy()}
        op_output.emit(Image(loaded.numpy(), meta), "image")


class SeriesToScan(Operator):
    """Makes the selected series a volume, as the bundles read DICOM everywhere.

    The SDK's own ``DICOMSeriesToVolumeOperator`` takes the distance of rows for that of columns, and does not look
    whether slices are missing, shifted or unevenly spaced. A series that had to be resampled is refused here: results
    could not refer to its slices.

    Named input:
        study_selected_series_list: of ``DICOMSeriesSelectorOperator``; its slices are put in order.
    Named output:
        image: Image, (X, Y, Z).
    """

    def __init__(self, fragment: Fragment, *args: Any, folder: Path, **options: Any) -> None:
        self.folder = folder
        super().__init__(fragment, *args, **options)

    def setup(self, spec: OperatorSpec) -> None:
        spec.input(SELECTED)
        spec.output("image")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        slices = selected_series(op_input.receive(SELECTED)).get_sop_instances()
        with warnings.catch_warnings():
            warnings.simplefilter("error", Correction)
            try:
                volume = read_series([each.get_native_sop_instance().filename for each in slices])
            except Correction as correction:
                raise ScanError(f"the results could not refer to the slices of the series: {correction}") from None
        to_voxels = np.linalg.inv(volume.affine) @ np.diag([-1, -1, 1, 1])  # DICOM's positions are LPS
        slices.sort(key=lambda each: to_voxels[2] @ [*each.get_native_sop_instance().ImagePositionPatient, 1])
        op_output.emit(Image(volume.voxels, {**volume_meta(volume), "filename_or_obj": str(self.folder)}), "image")


def selected_series(studies: Sequence[StudySelectedSeries]) -> DICOMSeries:
    """The one series that was selected.

    Raises:
        ScanError: for none or several.
    """
    series = [selected.series for study in studies for selected in study.selected_series]
    if len(series) != 1:
        names = ", ".join(f"{s.Modality} {s.SeriesDescription}" for s in series[:4])
        raise ScanError(f"the input must hold one DICOM series, got {len(series)}{names and ': '}{names}")
    return series[0]
