from __future__ import annotations

import bundle_workflows  # noqa: F401 - puts tools/ on the path
import numpy as np
import pytest

from medsynth_ext.data import ScanError
from medsynth_ext.methods.ultrasound_style.frames import find_frames, read_grey
from medsynth_ext.methods.ultrasound_style.writer import save_grey

pydicom = pytest.importorskip("pydicom")
from nifti_to_dicom import write_series  # noqa: E402 - needs pydicom

LEVELS = np.linspace(0, 255, 20 * 24).round().astype(np.uint8).reshape(20, 24)


def frame(folder, name, **tags):
    """A B-mode picture of 8 bits."""
    (path,) = write_series(folder, LEVELS.T[..., None], np.eye(4), names=[name])
    dataset = pydicom.dcmread(path)
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = LEVELS.tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.save_as(path)
    return path


def test_grey_and_colour_frames_are_the_same_picture(tmp_path):
    grey = frame(tmp_path, "grey.dcm")
    colour = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    rgb = frame(tmp_path, "rgb.dcm", **colour, PixelData=np.repeat(LEVELS[..., None], 3, 2).tobytes())
    assert find_frames(tmp_path) == [grey, rgb]
    for path in (grey, rgb):
        assert np.allclose(read_grey(path)[0].numpy(), LEVELS / 255, atol=1e-5), path.name


def test_a_clip_is_refused_by_name(tmp_path):
    path = frame(tmp_path, "clip.dcm", NumberOfFrames=2, PixelData=LEVELS.tobytes() * 2)
    with pytest.raises(ScanError, match=r"clip\.dcm must hold one frame, got 2: a clip has to be cut"):
        read_grey(path)


def test_what_is_made_of_a_dicom_frame_is_a_picture(tmp_path):
    path = frame(tmp_path, "a.dcm")
    save_grey(tmp_path / "made.png", LEVELS, path)
    assert np.allclose(read_grey(tmp_path / "made.png")[0].numpy(), LEVELS / 255)
