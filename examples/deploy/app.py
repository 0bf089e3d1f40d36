"""A MONAI Deploy application for every bundle with one network.

    python examples/deploy/app.py --model MODEL.ts --input SCAN --output DIR

MODEL.ts is written by export.py. SCAN is a file, or a folder with one DICOM series. A segmentation of a DICOM series
becomes a DICOM SEG and a synthetic image a DICOM series; of a NIfTI file, NIfTI files. Landmarks and points are JSON.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bundle_operator import BundleOperator, read_config
from monai.deploy.conditions import CountCondition
from monai.deploy.core import Application
from monai.deploy.operators import (
    DICOMDataLoaderOperator,
    DICOMSegmentationWriterOperator,
    DICOMSeriesSelectorOperator,
)
from monai.transforms import LoadImaged
from result_operators import Segments, ToSegments, WriteFile, WriteSeries
from scan_operators import SELECTED, LoadScan, SeriesToScan

from medsynth_ext.data import OutputError, ScanError, check_writable
from medsynth_ext.data.dicom_files import dicom_files

_MODALITIES = {"hounsfield": "CT", "magnitude": "MR"}


class BundleApplication(Application):
    """Source, bundle and writer, as the bundle's metadata and the input ask for.

    Args:
        model: exported file.
        scan: file or folder.
        output_dir: where results go.
        unpacked: folder for what the exported file carries.
    """

    def __init__(self, model: Path, scan: Path, output_dir: Path, unpacked: Path) -> None:
        self.model, self.scan, self.output_dir = model, scan, output_dir
        self.parser = read_config(model, unpacked, output_dir)
        self.format = self.parser["_meta_"]["network_data_format"]["outputs"]["pred"]["format"]
        super().__init__()

    def compose(self) -> None:
        """Connect the operators."""
        bundle = BundleOperator(self, model=self.model, parser=self.parser, name="bundle")
        load = self.parser.get_parsed_content("preprocessing").transforms[0]
        if self.scan.is_dir() and isinstance(load, LoadImaged):
            files = DICOMDataLoaderOperator(self, CountCondition(self, 1), input_folder=self.scan, name="files")
            series = DICOMSeriesSelectorOperator(self, rules="", name="series")
            scan = SeriesToScan(self, folder=self.scan, name="scan")
            self.add_flow(files, series, {("dicom_study_list", "dicom_study_list")})
            self.add_flow(series, scan, {(SELECTED, SELECTED)})
            self.add_flow(scan, bundle, {("image", "image")})
            self._write_dicom(series, bundle)
        else:
            source = LoadScan(self, CountCondition(self, 1), load=load, path=self.scan, name="scan")
            self.add_flow(source, bundle, {("image", "image")})
            self._write_file(bundle)

    def _write_file(self, bundle: Any) -> None:
        segments = Segments.of(self.parser) if self.format == "segmentation" else None
        self.add_flow(
            bundle, WriteFile(self, segments=segments, output_dir=self.output_dir, name="write"), {("pred", "pred")}
        )

    def _write_dicom(self, series: Any, bundle: Any) -> None:
        meta = self.parser["_meta_"]
        if self._gives_landmarks():
            self._write_file(bundle)
        elif self.format == "segmentation":
            convert = ToSegments(self, name="segments")
            descriptions = Segments.of(self.parser).descriptions(self.parser)
            write = DICOMSegmentationWriterOperator(
                self, segment_descriptions=descriptions, output_folder=self.output_dir, name="write"
            )
            self.add_flow(bundle, convert, {("pred", "pred")})
            self.add_flow(convert, write, {("seg_image", "seg_image")})
            self.add_flow(series, write, {(SELECTED, SELECTED)})
        else:
            write = WriteSeries(
                self,
                modality=_MODALITIES[self.format],
                title=f"synthetic: {meta['name']}"[:64],
                output_dir=self.output_dir,
                name="write",
            )
            self.add_flow(bundle, write, {("pred", "pred")})
            self.add_flow(series, write, {(SELECTED, SELECTED)})

    def _gives_landmarks(self) -> bool:
        transforms = self.parser.get_parsed_content("postprocessing").transforms
        return any("Landmarks" in type(transform).__name__ for transform in transforms)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="file that export.py wrote")
    parser.add_argument("--input", type=Path, required=True, help="scan: a file, or a folder with one DICOM series")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    args = parser.parse_args(arguments)
    for path in (args.model, args.input):
        if not path.exists():
            parser.error(f"{path} does not exist")
    if args.input.is_dir() and not dicom_files(args.input):
        parser.error(f"{args.input} holds no DICOM file: wanted one series")
    sys.argv = sys.argv[:1]  # the SDK reads the arguments of the program by itself
    try:
        check_writable(args.output)
        with tempfile.TemporaryDirectory(prefix="medsynth-deploy-") as unpacked:
            BundleApplication(args.model.resolve(), args.input.resolve(), args.output.resolve(), Path(unpacked)).run()
    except (ScanError, OutputError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"results are in {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
