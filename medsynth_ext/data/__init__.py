"""Real data in installed packages, scans in folders, and files that are written whole or not at all."""

from medsynth_ext.data.dicom_series import Correction, DicomVolume, read_series
from medsynth_ext.data.files import OutputError, check_writable, replacing
from medsynth_ext.data.frame_dataset import FrameDataset
from medsynth_ext.data.landmarks import LandmarkFileError, Landmarks
from medsynth_ext.data.point_frames import FrameError, find_frames, find_point_frames, split_by_surgery
from medsynth_ext.data.required import require_items
from medsynth_ext.data.scan_reader import ScanReader, scan_image
from medsynth_ext.data.scans import ScanDataset, ScanError, check_header, find_scans, scan_name
from medsynth_ext.data.sources import SOURCES, Source, real_data
from medsynth_ext.data.unpaired import UnpairedDataset

__all__ = [
    "SOURCES",
    "Correction",
    "DicomVolume",
    "FrameDataset",
    "FrameError",
    "LandmarkFileError",
    "Landmarks",
    "OutputError",
    "ScanDataset",
    "ScanError",
    "ScanReader",
    "Source",
    "UnpairedDataset",
    "check_header",
    "check_writable",
    "find_frames",
    "find_point_frames",
    "find_scans",
    "read_series",
    "real_data",
    "replacing",
    "require_items",
    "scan_image",
    "scan_name",
    "split_by_surgery",
]
