"""Where results go: DICOM SEG, a DICOM series, NIfTI or JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.deploy.core import ConditionType, Fragment, Operator, OperatorSpec
from monai.deploy.core.domain import Image
from monai.deploy.operators.dicom_seg_writer_operator import SegmentDescription
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from scan_operators import SELECTED, selected_series

from medsynth_ext.data import replacing, scan_name
from medsynth_ext.data.files import write_json
from medsynth_ext.data.nifti import nifti_image, save_nifti
from medsynth_ext.data.point_frames import points_to_json
from medsynth_ext.methods.ultrasound_style.writer import frame_levels, save_grey

_STRUCTURE = Code("123037004", "SCT", "Anatomical Structure")
_LESION = Code("49755003", "SCT", "Morphologically Altered Structure")
# What a derived image takes over from the slice that it was made of.
_KEPT = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "Rows",
    "Columns",
)


@dataclass(frozen=True)
class Segments:
    """The structures of a segmentation, whose image holds 1 for the first of them, 2 for the second and so on.

    Args:
        names: of the structures.
        values: what a file holds instead of 0, 1, 2, ..., background first.
    """

    names: Sequence[str]
    values: Sequence[int]

    @classmethod
    def of(cls, parser: ConfigParser) -> Segments:
        """From the channels in the metadata of a configuration, and its label table if it has one."""
        output = parser["_meta_"]["network_data_format"]["outputs"]["pred"]
        names = [name for _, name in sorted(output["channel_def"].items(), key=lambda item: int(item[0]))]
        names = names if len(names) == 1 else names[1:]  # one channel has no background
        table = parser.get("label_table") and parser.get_parsed_content("label_table")
        return cls(names, table.target_values if table else range(len(names) + 1))

    def descriptions(self, parser: ConfigParser) -> list[SegmentDescription]:
        """For the SDK's writer. The structures have codes of our own: their names, under a private scheme."""
        meta = parser["_meta_"]
        return [
            SegmentDescription(
                segment_label=name[:64],
                segmented_property_category=_LESION if "lesion" in name else _STRUCTURE,
                segmented_property_type=Code(re.sub(r"\W+", "_", name)[:16], "99MEDSYNTH", name[:64]),
                algorithm_name=meta["name"][:64],
                algorithm_family=Code("123109", "DCM", "Artificial Intelligence"),
                algorithm_version=meta["version"],
            )
            for name in self.names
        ]


class ToSegments(Operator):
    """From labels (1, X, Y, Z) to what the SDK's writer of DICOM SEG takes: 8 bits, (Z, Y, X)."""

    def setup(self, spec: OperatorSpec) -> None:
        spec.input("pred")
        spec.output("seg_image")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        labels = np.rint(op_input.receive("pred").values["pred"].cpu().numpy()[0]).astype(np.uint8)
        op_output.emit(Image(np.ascontiguousarray(labels.transpose(2, 1, 0))), "seg_image")


class WriteSeries(Operator):
    """Writes a synthetic image as a DICOM series of its own in the study, slice for slice in the place of the source.

    Args:
        modality: ``CT`` writes whole Hounsfield units, ``MR`` spreads its values over 15 bits.
        title: description of the series.
        output_dir: gets a folder with one file per slice.
    """

    def __init__(
        self, fragment: Fragment, *args: Any, modality: str, title: str, output_dir: Path, **options: Any
    ) -> None:
        self.modality, self.title, self.output_dir = modality, title, output_dir
        super().__init__(fragment, *args, **options)

    def setup(self, spec: OperatorSpec) -> None:
        spec.input("pred")
        spec.input(SELECTED)

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        image: MetaTensor = op_input.receive("pred").values["pred"]
        values = image.cpu().numpy()[0].astype(np.float64)  # (X, Y, Z)
        sources = [s.get_native_sop_instance() for s in selected_series(op_input.receive(SELECTED)).get_sop_instances()]
        slope = 1.0 if self.modality == "CT" else max(float(np.abs(values).max()) / 32767, 1e-9)
        series, folder = generate_uid(), self.output_dir / f"{self.modality.lower()}_series"
        for number, (source, plane) in enumerate(zip(sources, values.transpose(2, 1, 0), strict=True), start=1):
            stored = np.clip(np.rint(plane / slope), -32768, 32767).astype(np.int16)
            made = self._slice(source, stored, slope)
            made.SeriesInstanceUID, made.InstanceNumber = series, number
            with replacing(folder / f"{number:04d}.dcm") as temporary:
                made.save_as(temporary, enforce_file_format=True)

    def _slice(self, source: Dataset, stored: np.ndarray, slope: float) -> FileDataset:
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage if self.modality == "CT" else MRImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        for name in _KEPT:
            if name in source:
                made[name] = source[name]
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
        made.SourceImageSequence = [reference]
        made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        made.Modality, made.SeriesDescription, made.SeriesNumber = self.modality, self.title, None
        made.ImageType = ["DERIVED", "SECONDARY", "AXIAL" if self.modality == "CT" else "OTHER"]
        made.DerivationDescription, made.Manufacturer = "synthesised by a neural network", "medsynth"
        made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
        made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 1
        made.RescaleSlope, made.RescaleIntercept = f"{slope:.10g}", "0"
        made.RescaleType = "HU" if self.modality == "CT" else "US"
        made.PixelData = stored.tobytes()
        return made


class WriteFile(Operator):
    """Writes labels and images as NIfTI, frames as PNG, points as JSON; landmarks the post-processing wrote itself.

    Args:
        segments: what the numbers of a segmentation mean; ``None`` for an image.
        output_dir: gets ``NAME_seg.nii.gz``, ``NAME_synthetic.nii.gz``, ``NAME_style0.png`` or ``NAME.json``.
    """

    def __init__(
        self, fragment: Fragment, *args: Any, segments: Segments | None, output_dir: Path, **options: Any
    ) -> None:
        self.segments, self.output_dir = segments, output_dir
        super().__init__(fragment, *args, **options)

    def setup(self, spec: OperatorSpec) -> None:
        spec.input("pred")
        spec.input(SELECTED).condition(ConditionType.NONE)

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        result: dict[str, Any] = op_input.receive("pred").values
        meta = result["image"].meta
        name = scan_name(str(meta["filename_or_obj"]))
        if "pred_points" in result:
            points = points_to_json(result["pred_points"], meta["frame_size"], result["pred_scores"])
            write_json(self.output_dir / f"{Path(name).stem}.json", points)
        elif "frame_size" in meta:
            for number, levels in enumerate(frame_levels(result["pred"], meta["frame_size"])):
                save_grey(self.output_dir / f"{Path(name).stem}_style{number}.png", levels, name)
        elif isinstance(result["pred"], MetaTensor) and "landmarks" not in result:
            self._save(result["pred"], name)

    def _save(self, image: MetaTensor, name: str) -> None:
        if self.segments is None:
            save_nifti(nifti_image(image, np.float32), self.output_dir / f"{name}_synthetic.nii.gz")
        else:
            values = torch.tensor(self.segments.values)[image.as_tensor().cpu().round().long()]
            labels = MetaTensor(values, meta=image.meta)
            save_nifti(nifti_image(labels, np.int16), self.output_dir / f"{name}_seg.nii.gz")
