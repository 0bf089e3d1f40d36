from __future__ import annotations

from pathlib import Path

import bundle_workflows  # noqa: F401 - puts tools/ on the path
import numpy as np
import pytest

from medsynth_ext.data import ScanError
from medsynth_ext.methods.dag.radiographs import LoadRadiographd, find_radiographs, radiograph_name, read_radiograph

pydicom = pytest.importorskip("pydicom")
from nifti_to_dicom import write_series  # noqa: E402 - needs pydicom

PIXELS = np.arange(48 * 40).reshape(48, 40)  # rows, columns


def radiograph(path: Path, **tags) -> Path:
    """One image of 12 bits without a place in the patient, as an X-ray machine sends it."""
    (made,) = write_series(path.parent, PIXELS.T[..., None], np.eye(4), names=[path.name])
    dataset = pydicom.dcmread(made)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept"):
        del dataset[name]
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    dataset.Modality, dataset.PixelSpacing = "CR", [0.7, 0.4]
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 0
    for name, value in tags.items():
        if value is None:
            del dataset[name]
        else:
            setattr(dataset, name, value)
    dataset.save_as(made)
    return made


def test_pixels_and_their_size_are_those_of_the_file(tmp_path):
    found = read_radiograph(radiograph(tmp_path / "a.dcm"))
    assert np.array_equal(found.pixels, PIXELS)
    assert found.spacing_mm == pytest.approx((0.7, 0.4))
    assert found.world @ [10, 20, 0, 1] == pytest.approx([-0.4 * 20, -0.7 * 10, 0, 1])


def test_the_inverted_kind_is_turned_over(tmp_path):
    plain = read_radiograph(radiograph(tmp_path / "plain.dcm")).pixels
    inverted = read_radiograph(radiograph(tmp_path / "inverted.dcm", PhotometricInterpretation="MONOCHROME1")).pixels
    assert np.ptp(plain + inverted) == 0


def test_the_size_of_a_pixel_on_the_detector_counts_where_there_is_no_other(tmp_path):
    detector = radiograph(tmp_path / "a.dcm", PixelSpacing=None, ImagerPixelSpacing=[0.3, 0.2])
    assert read_radiograph(detector, spacing_mm=(9, 9)).spacing_mm == pytest.approx((0.3, 0.2))
    calibrated = radiograph(tmp_path / "b.dcm", ImagerPixelSpacing=[0.3, 0.2])
    assert read_radiograph(calibrated).spacing_mm == pytest.approx((0.7, 0.4))
    unknown = radiograph(tmp_path / "c.dcm", PixelSpacing=None)
    assert read_radiograph(unknown).spacing_mm is None
    assert read_radiograph(unknown, spacing_mm=(9, 8)).spacing_mm == (9, 8)
    assert not LoadRadiographd("image")({"image": str(unknown)})["image"].meta["spacing_known"]


def test_an_image_with_a_place_in_the_patient_keeps_it(tmp_path):
    path = radiograph(tmp_path / "a.dcm", ImagePositionPatient=[5, 6, 7], ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    found = read_radiograph(path)  # a side view: along a row to the back, down a column to the feet
    assert found.world @ [10, 20, 0, 1] == pytest.approx([-5, -(6 + 0.4 * 20), 7 - 0.7 * 10, 1])


def test_files_without_an_ending_and_folders_of_one_file_are_found(tmp_path):
    radiograph(tmp_path / "IM0001")
    radiograph(tmp_path / "left.hand/IM0001")
    files = find_radiographs(tmp_path)
    assert [radiograph_name(path) for path in files] == ["IM0001", "left.hand"]
    assert all(np.array_equal(read_radiograph(path).pixels, PIXELS) for path in files)


def test_dicom_that_is_no_radiograph_is_refused_in_one_sentence(tmp_path):
    clip = radiograph(tmp_path / "clip.dcm", NumberOfFrames=2, PixelData=PIXELS.astype("<i2").tobytes() * 2)
    early = radiograph(tmp_path / "early.dcm")
    early.write_bytes(early.read_bytes()[:-100])
    radiograph(tmp_path / "two/a.dcm")
    radiograph(tmp_path / "two/b.dcm")
    for path, said in (
        (clip, r"clip\.dcm must be one 2D image, got 2 frames"),
        (early, r"early\.dcm cannot be read as a DICOM image: it is damaged or ends early"),
        (tmp_path / "two", r"two must hold one radiograph, got 2 DICOM files"),
    ):
        with pytest.raises(ScanError, match=said) as error:
            read_radiograph(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)
