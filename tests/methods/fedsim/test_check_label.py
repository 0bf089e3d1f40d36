from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bundle_workflows import run_workflow
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged

from medsynth_ext.data.scans import ScanError
from medsynth_ext.methods.fedsim.check_label import CheckHeartLabeld
from medsynth_ext.methods.fedsim.shape_model import ShapeModel, ShapeModelError

BUNDLE = Path(__file__).resolve().parents[3] / "bundles/fedsim_cardiac_ct_synthesis"
KEYS = ["image", "label"]
SIZE = 12


def read(folder: Path, label: np.ndarray, affine: np.ndarray | None = None) -> dict:
    affine = np.diag([5.0, 5.0, 5.0, 1.0]) if affine is None else affine
    image = np.full((SIZE,) * 3, -900, np.int16)
    nib.save(nib.Nifti1Image(image, np.diag([5.0, 5.0, 5.0, 1.0])), folder / "scan.nii.gz")
    nib.save(nib.Nifti1Image(label, affine), folder / "heart.nii.gz")
    load = Compose([LoadImaged(KEYS, reader="NibabelReader"), EnsureChannelFirstd(KEYS), CheckHeartLabeld()])
    return load({"image": str(folder / "scan.nii.gz"), "label": str(folder / "heart.nii.gz")})


def heart(value: int, dtype: type = np.uint8) -> np.ndarray:
    label = np.zeros((SIZE,) * 3, dtype)
    label[4:8, 4:8, 4:8] = value
    return label


@pytest.mark.parametrize("value", [1, 7])
def test_hearts_and_parts_pass(tmp_path, value):
    assert read(tmp_path, heart(value))["label"].max() == value


def test_label_on_a_grid_of_its_own_passes_where_it_covers_the_scan(tmp_path):
    label = np.zeros((6, 6, 6), np.uint8)
    label[2:4, 2:4, 2:4] = 1
    read(tmp_path, label, np.diag([10.0, 10.0, 10.0, 1.0]))


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (heart(205, np.int16), r"heart\.nii\.gz must hold 0 and 1, or the parts 0 to 7, got 0, 205"),
        (heart(0), r"heart\.nii\.gz marks no heart"),
        (heart(1).astype(np.float32) * 0.5, r"must hold 0 and 1, or the parts 0 to 7, got 0, 0\.5"),
    ],
)
def test_another_label_set_is_refused(tmp_path, label, message):
    with pytest.raises(Exception, match="applying transform") as caught:
        read(tmp_path, label)
    assert isinstance(caught.value.__cause__, ScanError)
    with pytest.raises(ScanError, match=message):
        raise caught.value.__cause__


def test_heart_outside_its_scan_is_refused(tmp_path):
    moved = np.diag([5.0, 5.0, 5.0, 1.0])
    moved[0, 3] = 300.0
    with pytest.raises(Exception, match="applying transform") as caught:
        read(tmp_path, heart(1), moved)
    assert "lies outside the scan" in str(caught.value.__cause__)


def test_training_in_which_all_patients_would_validate_is_refused(tmp_path):
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
        nib.save(nib.Nifti1Image(heart(1), np.eye(4)), tmp_path / kind / "one.nii.gz")
    with pytest.raises(RuntimeError) as caught:
        run_workflow(BUNDLE, "train.json", dataset_dir=str(tmp_path), output_dir=str(tmp_path / "out"))
    reasons = []
    error: BaseException | None = caught.value
    while error is not None:
        reasons.append(str(error))
        error = error.__cause__ or error.__context__
    assert any("hold 1 pairs" in reason and "wanted at least 3" in reason for reason in reasons)
    assert not (tmp_path / "out").exists()


def test_damaged_shape_model_is_named(tmp_path):
    path = tmp_path / "shape_model.npz"
    path.write_bytes(b"PK\x03\x04" + bytes(200))
    with pytest.raises(ShapeModelError, match=r"shape_model\.npz cannot be read"):
        ShapeModel.load(path)
