"""Files in and out: data folders, landmark files, the run over a folder of scans."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_workflows import load_tiny, run_workflow
from monai.data import MetaTensor

from medsynth_ext.data.landmark_files import read_landmarks
from medsynth_ext.data.markups import read_markups
from medsynth_ext.handlers.weights_writer import half_state_dict
from medsynth_ext.methods.oneshot.cases import ReadWorldLandmarks, find_annotated, find_cases
from medsynth_ext.methods.oneshot.network import OneShotCNN
from medsynth_ext.methods.oneshot.phantom_cases import write_cases
from medsynth_ext.methods.oneshot.reference import Reference, make_reference
from medsynth_ext.methods.oneshot.results import LandmarksToWorld
from medsynth_ext.phantoms.inner_ear import inner_ear_phantom
from medsynth_ext.phantoms.posed_anatomy import PoseRanges

BUNDLE = Path(__file__).parents[3] / "bundles" / "oneshot_landmark_detection"


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Weights of an untrained network and a reference; what is tested here are files, not skill."""
    folder = tmp_path_factory.mktemp("trained")
    torch.save(half_state_dict(OneShotCNN(features=(4, 8), norm=True)), folder / "model.pt")
    ranges = PoseRanges(translation_mm=3.0)
    ear = inner_ear_phantom(0, size=(40, 40, 40), spacing_mm=1.0, ranges=ranges)
    image = ((ear.image + 1000) / 4000)[None]
    places = ear.landmarks_mm - torch.tensor(ear.grid.first_mm).double()
    make_reference(image, ear.mask[None], places, ear.landmark_names, size=24, spacing_mm=1.0).save(
        folder / "reference.npz"
    )
    return folder / "model.pt"


def test_cases_are_found_and_what_is_missing_is_named(tmp_path):
    assert find_cases(tmp_path) == []
    assert find_annotated(tmp_path, "reference", landmarks=True) == []
    write_cases(tmp_path, cases=1, size=(40, 40, 40), spacing_mm=1.0, translation_mm=3.0)
    (case,) = find_cases(tmp_path)
    (annotated,) = find_annotated(tmp_path, "reference", landmarks=True)
    points = read_landmarks(annotated["landmarks"])
    affine = nib.load(annotated["image"]).affine
    np.testing.assert_allclose(points.index @ affine[:3, :3].T + affine[:3, 3], points.world_mm, atol=1e-6)
    order = ReadWorldLandmarks(lambda: ("apex", "centre"))(case)["landmarks"]
    truth = read_landmarks(case["landmarks"])
    np.testing.assert_allclose(order.numpy(), truth.world_mm[[truth.names.index(n) for n in ("apex", "centre")]])
    with pytest.raises(ValueError, match="no landmark 'hook', it has centre, apex, round_window"):
        ReadWorldLandmarks(lambda: ("hook",))(case)
    Path(case["landmarks"]).unlink()
    with pytest.raises(ValueError, match="has no landmarks"):
        find_cases(tmp_path)
    (tmp_path / "reference/mask.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"one file mask.nii.gz .* got 0"):
        find_annotated(tmp_path, "reference")


def run_one(trained: Path, folder: Path, *, turned: bool) -> Path:
    """Results of the tiny scan, or of the same one stored as LPS with two axes swapped."""
    settings = load_tiny(BUNDLE.name).infer(folder / "data", trained)
    path = folder / "data/images/one.nii.gz"
    if turned:
        nib.save(nib.load(path).as_reoriented(np.array([[1, -1], [0, -1], [2, 1]])), path)
    run_workflow(BUNDLE, "inference.json", kind="infer", output_dir=str(folder / "out"), **settings)
    points = read_landmarks(folder / "out/one.landmarks.json")
    affine = nib.load(path).affine
    np.testing.assert_allclose(points.index @ affine[:3, :3].T + affine[:3, 3], points.world_mm, atol=1e-3)
    return folder / "out"


def test_landmarks_are_the_same_in_the_world_however_the_scan_lies_on_disk(trained, tmp_path):
    out = run_one(trained, tmp_path / "plain", turned=False)
    points = read_landmarks(out / "one.landmarks.json")
    names, world = read_markups(out / "one.mrk.json")
    assert names == ("centre", "apex", "round_window")
    np.testing.assert_allclose(world, points.world_mm, atol=1e-3)
    assert (out / "landmarks.csv").read_text().count("one,") == 3
    rotation = np.array(points.notes["rotation"])
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-4)
    assert nib.load(out / "one_patch.nii.gz").shape == (24, 24, 24)
    assert nib.load(out / "one_probability.nii.gz").shape == (24, 24, 24)
    other = read_landmarks(run_one(trained, tmp_path / "turned", turned=True) / "one.landmarks.json")
    np.testing.assert_allclose(other.world_mm, points.world_mm, atol=0.02)


def test_bad_scans_are_named_and_the_others_are_searched(trained, tmp_path):
    settings = load_tiny(BUNDLE.name).infer(tmp_path / "data", trained)
    (tmp_path / "data/images/broken.nii.gz").write_bytes(b"nothing")
    flat = np.full((20, 20, 20), np.nan, dtype=np.float32)
    nib.save(nib.Nifti1Image(flat, np.eye(4)), tmp_path / "data/images/nan.nii.gz")
    out = tmp_path / "out"
    with pytest.raises((SystemExit, RuntimeError)):
        run_workflow(BUNDLE, "inference.json", kind="infer", output_dir=str(out), **settings)
    record = json.loads((out / "run.json").read_text())
    assert sorted(Path(path).name for path in record["failed"]) == ["broken.nii.gz", "nan.nii.gz"]
    assert (out / "one.landmarks.json").is_file()
    assert not list(out.glob("broken*"))


def test_a_missing_reference_ends_in_one_sentence(trained, tmp_path):
    settings = load_tiny(BUNDLE.name).infer(tmp_path / "data", trained)
    with pytest.raises((SystemExit, RuntimeError), match=r"reference|run"):
        run_workflow(
            BUNDLE,
            "inference.json",
            kind="infer",
            output_dir=str(tmp_path / "out"),
            **{**settings, "reference": str(tmp_path / "none.npz")},
        )
    assert not list((tmp_path / "out").glob("one*"))


def test_world_positions_follow_the_affine(trained):
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0], dtype=torch.float64))
    affine[:3, 3] = torch.tensor([5.0, 6.0, 7.0])
    image = MetaTensor(torch.zeros(1, 4, 4, 4), affine=affine)
    places = torch.tensor([[1.0, 1.0, 1.0], [torch.nan] * 3], dtype=torch.float64)
    world = LandmarksToWorld()({"image": image, "pred": {"landmarks": places}})["world"]
    assert world[0].tolist() == [7.0, 9.0, 11.0]
    assert world[1].isnan().all()
    assert Reference.load(trained.with_name("reference.npz")).names == ("centre", "apex", "round_window")
