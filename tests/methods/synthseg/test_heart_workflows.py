"""Phantom hearts as files, and the preparation of label maps, through the bundle's configs."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bundle_workflows import run_workflow
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged

from medsynth_ext.methods.synthseg.heart_cases import MODALITIES, heart_image, write_heart_cases
from medsynth_ext.methods.synthseg.labels import LabelTable
from medsynth_ext.methods.synthseg.preparation import prepare_label_maps
from medsynth_ext.phantoms.whole_heart import whole_heart_phantom

BUNDLE = Path(__file__).resolve().parents[3] / "bundles/synthseg_heart_segmentation"


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hearts")
    run_workflow(BUNDLE, "phantoms.json", kind=None, output_dir=str(folder), cases=2, size=24)
    return folder


@pytest.fixture(scope="module")
def prepared(cases, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    settings = {"spacing_mm": 8.0, "backgrounds": [3, 5], "least_voxels": 5}
    run_workflow(BUNDLE, "prepare_labels.json", kind=None, dataset_dir=str(cases), output_dir=str(folder), **settings)
    return folder


def values(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def test_phantoms_are_written_as_pairs(cases):
    assert sorted(p.name for p in (cases / "images").iterdir()) == ["heart_000.nii.gz", "heart_001.nii.gz"]
    phantom = whole_heart_phantom(0, 1, size=24, fov_mm=192.0)
    assert np.array_equal(values(cases / "labels/heart_001.nii.gz"), phantom.labels.numpy())
    image = nib.load(cases / "images/heart_001.nii.gz")
    assert np.allclose(image.affine, phantom.affine.numpy())
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")


def test_one_label_can_be_kept_alone(tmp_path):
    write_heart_cases(tmp_path, cases=1, size=16, only=4)
    assert np.unique(values(tmp_path / "labels/heart_000.nii.gz")).tolist() == [0, 4]


def test_every_modality_is_another_image_of_the_same_heart():
    phantom = whole_heart_phantom(0, 0, size=20, fov_mm=192.0)
    images = [heart_image(phantom, name, seed=0) for name in MODALITIES]
    assert len({float(image.mean()) for image in images}) == len(MODALITIES)
    assert all(tuple(image.shape) == (1, 20, 20, 20) for image in images)
    with pytest.raises(ValueError, match="modality must be one of bssfp, angiography, ct_A, ct_B, ct_C, got 'T1'"):
        heart_image(phantom, "T1", seed=0)


def test_preparation_writes_one_map_per_number_of_backgrounds(cases, prepared):
    names = sorted(p.name for p in (prepared / "maps").iterdir())
    assert names == [f"heart_{k:03d}_n{n:02d}.nii.gz" for k in (0, 1) for n in (3, 5)]
    for name in names:
        split = values(prepared / "maps" / name)
        assert np.array_equal(split % 1000, values(cases / "labels" / (name[:9] + ".nii.gz")))
        assert len(np.unique(split[split % 1000 == 0])) == int(name[11:13])


def test_preparation_writes_a_table_that_training_reads(prepared):
    table = LabelTable.from_json(prepared / "labels.json")
    found = {int(v) for path in (prepared / "maps").iterdir() for v in np.unique(values(path))}
    assert found <= set(table.generation_labels)
    assert table.target_values == list(range(8))


def test_shipped_table_is_that_of_the_shipped_preparation():
    config = json.loads((BUNDLE / "configs/prepare_labels.json").read_text())
    shipped = LabelTable.from_json(BUNDLE / "configs/labels.json")
    assert shipped.generation_labels[: max(config["backgrounds"])] == [1000 * k for k in range(10)]
    assert {str(v): n for v, n in zip(shipped.target_values[1:], shipped.target_names[1:], strict=True)} == config[
        "names"
    ]


def test_report_tells_what_every_sub_label_is(prepared):
    with (prepared / "report.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    first = [row for row in rows if row["map"] == "heart_000_n05.nii.gz"]
    assert sum(int(row["voxels"]) for row in first) == 24**3
    background = [float(row["mean"]) for row in first if row["label"] == "background"]
    assert background == sorted(background)
    assert len(background) == 5


def test_maps_without_split_keep_their_labels(cases, tmp_path):
    settings = {"spacing_mm": 8.0, "split": False, "output_dir": str(tmp_path)}
    run_workflow(BUNDLE, "prepare_labels.json", kind=None, dataset_dir=str(cases), **settings)
    assert np.array_equal(values(tmp_path / "maps/heart_000_n01.nii.gz"), values(cases / "labels/heart_000.nii.gz"))


def test_any_organs_values_can_be_renamed(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.zeros((16, 16, 16), np.int16)
    labels[4:10, 4:10, 4:10] = 205
    image = rng.normal(50, 5, labels.shape) + 100 * (labels > 0)
    for kind, data in (("images", image.astype(np.float32)), ("labels", labels)):
        (tmp_path / kind).mkdir()
        nib.save(nib.Nifti1Image(data, np.diag([-2.0, -2.0, 2.0, 1.0])), tmp_path / kind / "liver.nii.gz")
    settings = {"spacing_mm": 2.0, "names": {"9": "liver"}, "rename": {"205": 9}, "backgrounds": [2]}
    run_workflow(BUNDLE, "prepare_labels.json", kind=None, dataset_dir=str(tmp_path), **settings)
    written = nib.load(tmp_path / "maps/liver_n02.nii.gz")
    assert set(np.unique(np.asarray(written.dataobj) % 1000)) == {0, 9}
    assert nib.aff2axcodes(written.affine) == ("R", "A", "S")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rename": {}, "names": {"1": "one"}}, r"labels \[2, 3, 4, 5, 6, 7\] are not in names"),
        ({"names": {"0": "none"}}, "names must have values from 1 to 999, got 0"),
    ],
)
def test_wrong_labels_are_named(cases, tmp_path, settings, message):
    with pytest.raises((ValueError, RuntimeError)) as error:
        run_workflow(
            BUNDLE,
            "prepare_labels.json",
            kind=None,
            dataset_dir=str(cases),
            output_dir=str(tmp_path),
            spacing_mm=8.0,
            **settings,
        )
    text = str(error.value) + str(error.value.__cause__)
    assert re.search(message, text)


@pytest.mark.parametrize(
    ("voxel", "label", "message"),
    [(math.nan, 1, r"one\.nii\.gz: the image must be finite"), (5.0, 0, r"one\.nii\.gz holds nothing but background")],
)
def test_a_pair_of_no_use_is_named_and_no_table_is_left(tmp_path, voxel, label, message):
    image = np.random.default_rng(0).normal(50, 5, (8, 8, 8)).astype(np.float32)
    image[2, 2, 2] = voxel
    labels = np.zeros(image.shape, np.int16)
    labels[3:6, 3:6, 3:6] = label
    for kind, data in (("images", image), ("labels", labels)):
        (tmp_path / kind).mkdir()
        nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / kind / "one.nii.gz")
    pairs = [{key: str(tmp_path / f"{key}s" / "one.nii.gz") for key in ("image", "label")}]
    load = Compose([LoadImaged(("image", "label")), EnsureChannelFirstd(("image", "label"))])
    with pytest.raises(ValueError, match=message):
        prepare_label_maps(pairs, tmp_path / "out", load=load, names={1: "organ"}, backgrounds=[2])
    assert not list((tmp_path / "out").rglob("*.*"))


def test_no_pairs_is_said(tmp_path):
    with pytest.raises((ValueError, RuntimeError)) as error:
        run_workflow(BUNDLE, "prepare_labels.json", kind=None, dataset_dir=str(tmp_path))
    assert "wanted images/NAME.nii.gz" in str(error.value) + str(error.value.__cause__)
