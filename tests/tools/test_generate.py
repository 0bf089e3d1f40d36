"""The command line of bulk generation: what it takes, and what it says to wrong input."""

from __future__ import annotations

import json
from pathlib import Path

import generate as tool
import nibabel as nib
import numpy as np
import pytest
from bundle_workflows import TOOLS, load_tiny

BUNDLES = TOOLS.parent / "bundles"


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["generate.py", *map(str, arguments)])
        status = tool.main()
        return status, capsys.readouterr().err.splitlines()[-1]

    return call


@pytest.fixture(scope="module")
def maps(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("maps")
    load_tiny("synthseg_brain_segmentation").train(folder)
    return folder


def small(maps: Path, *more: str) -> list[str]:
    settings = ["crop_size=[16,16,16]", "spacing_mm=2.0", f"labels_dir={maps}", *more]
    return [word for setting in settings for word in ("--set", setting)]


def test_label_maps_become_pairs_of_image_and_label(run, maps, tmp_path):
    bundle = BUNDLES / "synthseg_brain_segmentation"
    status, _ = run(bundle, "--out", tmp_path / "out", "--count", 6, "--shard-size", 4, *small(maps))
    assert status == 0
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert [sample["facts"]["map"] for sample in manifest["samples"]] == [f"map_{i % 5}.nii.gz" for i in range(6)]
    assert len(manifest["source"]["maps"]) == 5
    assert str(tmp_path) not in json.dumps(manifest)  # no path of this machine
    table = json.loads((bundle / "configs/labels.json").read_text())
    for sample in manifest["samples"]:
        image, label = (nib.load(tmp_path / "out" / record["path"]) for record in sample["files"])
        values = np.asarray(image.dataobj)
        assert values.min() >= 0
        assert 0 < values.max() <= 1000
        assert image.header.get_zooms() == label.header.get_zooms() == (2.0, 2.0, 2.0)
        found = set(np.unique(np.asarray(label.dataobj)).tolist())
        assert len(found) > 2
        assert found <= set(table["segmentation_labels"])


@pytest.mark.parametrize("phantom", ["head", "heart_ct", "heart_mr", "head_mr_ct", "inner_ear"])
def test_phantoms_make_images_with_labels_on_their_grid(run, tmp_path, phantom):
    size = ["size=24", "fov_mm=192.0"] if phantom.startswith("heart") else ["size=24", "spacing_mm=8.0"]
    if phantom == "inner_ear":
        size = ["size=40", "spacing_mm=1.0"]
    settings = [word for setting in size for word in ("--set", setting)]
    assert run(phantom, "--out", tmp_path, "--count", 1, *settings)[0] == 0
    (sample,) = json.loads((tmp_path / "manifest.json").read_text())["samples"]
    images = {record["volume"]: nib.load(tmp_path / record["path"]) for record in sample["files"]}
    label = images.pop("label")
    inside = np.asarray(label.dataobj) > 0
    assert inside.any()
    assert not inside.all()
    for image in images.values():
        assert np.allclose(image.affine, label.affine)
        values = np.asarray(image.dataobj).astype(float)
        assert abs(values[inside].mean() - values[~inside].mean()) > 0.2 * values.std()


def test_the_simulator_of_a_bundle_makes_patients(run, tmp_path):
    bundle = BUNDLES / "fedsim_cardiac_ct_synthesis"
    assert run(bundle, "--out", tmp_path, "--count", 1, "--set", "device=cpu")[0] == 0
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (sample,) = manifest["samples"]
    assert [record["volume"] for record in sample["files"]] == ["ct", "label", "material", "parts"]
    assert len(sample["facts"]["z"]) == 32
    assert set(manifest["source"]["files"]) == {"weights", "shape_model"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "nothing is no bundle folder, no configuration and none of the phantoms head,"),
        (["head", "--set", "colour=red"], "the phantom head has the options contrast, size, spacing_mm, got colour"),
        (["head", "--set", "contrast=red"], "contrast must be one of"),
        (["head", "--count", "0"], "count must be a whole number from 1"),
        (["head", "--shard-size", "0"], "shard_size must be a whole number from 1"),
        (["head", "--workers", "0"], "workers must be at least 1, got 0"),
        ([str(BUNDLES / "fbpaug_ct_segmentation")], "this bundle generates no labelled volumes"),
        ([str(BUNDLES / "synthseg_brain_segmentation"), "--set", "crop=3"], "has no crop to be set"),
        ([str(BUNDLES / "synthseg_brain_segmentation"), "--set", "labels_dir=none"], "found none; set labels_dir"),
    ],
)
def test_wrong_input_ends_in_one_sentence(run, tmp_path, arguments, message):
    status, error = run(*arguments[:1], "--out", tmp_path / "out", "--count", 1, *arguments[1:])
    assert status == 1
    assert error.startswith("generation stopped: ")
    assert message in error
    assert not (tmp_path / "out/manifest.json").exists()
    assert not list((tmp_path / "out").glob("shard_*"))


def test_a_broken_label_map_is_named_before_anything_is_written(run, tmp_path):
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps/bad.nii.gz").write_bytes(b"\x1f\x8bnonsense")
    bundle = BUNDLES / "synthseg_brain_segmentation"
    status, error = run(bundle, "--out", tmp_path / "out", "--count", 1, *small(tmp_path / "maps"))
    assert status == 1
    assert "bad.nii.gz: cannot be read as a label map" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="a folder that nobody may write to")
def test_a_folder_that_cannot_be_written_is_named(run):
    status, error = run("head", "--out", "/sys/kernel/medsynth", "--count", 1)
    assert status == 1
    assert "generation stopped: the folder /sys/kernel/medsynth cannot be written: " in error


def test_a_file_in_the_way_of_the_folder_is_named(run, tmp_path):
    (tmp_path / "out").write_text("")
    status, error = run("head", "--out", tmp_path / "out", "--count", 1)
    assert status == 1
    assert f"the folder {tmp_path}/out cannot be written" in error
